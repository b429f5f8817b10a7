//! An HTTP client that limits the size of responses, whatever a server or proxy sends.
//!
//! The SDK collects the whole response before it parses it, without a limit.

use aws_sdk_kinesis::config::{ConfigBag, RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

/// Largest response, in bytes. 500 records need about 100 KiB, a page of `ListShards` 350 KiB.
pub(super) const RESPONSE_MAX: usize = 2 << 20;

/// Limits the responses to a client to `most` bytes.
pub(super) fn bounded(client: SharedHttpClient, most: usize) -> SharedHttpClient {
    SharedHttpClient::new(BoundedClient(client, most))
}

#[derive(Debug)]
struct BoundedClient(SharedHttpClient, usize);

impl HttpClient for BoundedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(self.0.http_connector(settings, components), self.1))
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector, usize);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (response, most) = (self.0.call(request), self.1);
        HttpConnectorFuture::new(async move {
            let limited = |body| SdkBody::from_body_1_x(Limited::new(body, most));
            Ok(response.await?.map(limited))
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[derive(Debug)]
    struct Server(usize);

    impl HttpConnector for Server {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let status = 200.try_into().unwrap();
            let body = SdkBody::from(vec![b' '; self.0]);
            HttpConnectorFuture::ready(Ok(aws_smithy_runtime_api::client::orchestrator::HttpResponse::new(
                status, body,
            )))
        }
    }

    #[tokio::test]
    async fn response_above_the_limit_is_an_error() {
        for (size, fits) in [(0, true), (RESPONSE_MAX, true), (RESPONSE_MAX + 1, false)] {
            let bounded = BoundedConnector(SharedHttpConnector::new(Server(size)), RESPONSE_MAX);
            let response = bounded.call(HttpRequest::empty()).await.unwrap();
            let read = response.into_body().collect().await;
            assert_eq!(read.map(|body| body.to_bytes().len()).ok(), fits.then_some(size), "{size}");
        }
    }
}
