//! What the service answers when it refuses a request as a whole.

/// An error answer, as awsJson1.1 carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// HTTP status.
    pub(crate) status: u16,
    /// `__type`, without a namespace.
    pub(crate) kind: String,
    /// For people.
    pub(crate) message: String,
}

impl ApiError {
    /// Any error.
    pub(crate) fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        Self { status, kind: kind.to_owned(), message: message.into() }
    }

    /// An error of the service that a test asks for, in the words of the service where they are known.
    pub(crate) fn of_the_service(status: u16, code: &str) -> Self {
        let key = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000";
        let message = match code {
            "AccessDeniedException" => {
                "User: arn:aws:iam::000000000000:user/forebay is not authorized to perform this action on resource: \
                 arn:aws:kinesis:us-east-1:000000000000:stream/lab-events because no identity-based policy allows it"
                    .to_owned()
            }
            "ResourceNotFoundException" => {
                "Stream lab-events under account 000000000000 not found.".to_owned()
            }
            "UnrecognizedClientException" => "The security token included in the request is invalid.".to_owned(),
            "InvalidSignatureException" => {
                "Signature expired: 20260101T000000Z is now earlier than 20260101T010000Z (20260101T011500Z - 15 min.)"
                    .to_owned()
            }
            "KMSDisabledException" => format!("{key} is disabled."),
            "KMSInvalidStateException" => format!("{key} is pending deletion."),
            "KMSNotFoundException" => format!("Key '{key}' does not exist"),
            "KMSAccessDeniedException" => {
                "User: arn:aws:iam::000000000000:user/forebay is not authorized to perform: kms:GenerateDataKey on this \
                 resource because the resource does not exist in this Region, no resource-based policies allow access, or a \
                 resource-based policy explicitly denies access"
                    .to_owned()
            }
            "KMSOptInRequired" => {
                "The AWS Access Key Id needs a subscription for the service".to_owned()
            }
            "KMSThrottlingException" | "LimitExceededException" => "Rate exceeded".to_owned(),
            _ => "scripted by the test".to_owned(),
        };
        Self::new(status, code, message)
    }

    /// A constraint of the service's model is broken.
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationException", message)
    }

    /// An argument is well-formed but cannot be right.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidArgumentException", message)
    }

    /// There is no such stream or shard.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(400, "ResourceNotFoundException", message)
    }

    /// The stream exists already, or is in the wrong state.
    pub(crate) fn in_use(message: impl Into<String>) -> Self {
        Self::new(400, "ResourceInUseException", message)
    }

    /// The shard's throughput is used up.
    pub(crate) fn throughput(message: impl Into<String>) -> Self {
        Self::new(400, "ProvisionedThroughputExceededException", message)
    }
}

/// A whole answer, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// HTTP status.
    pub(crate) status: u16,
    /// `x-amzn-errortype`, when it is an error.
    pub(crate) error: Option<String>,
    /// JSON.
    pub(crate) body: bytes::Bytes,
}

impl Reply {
    /// A 200 with this JSON.
    pub(crate) fn json(body: impl Into<bytes::Bytes>) -> Self {
        Self { status: 200, error: None, body: body.into() }
    }

    /// A 200 without content, as operations without output answer.
    pub(crate) fn empty() -> Self {
        Self::json(bytes::Bytes::new())
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        let body = serde_json::json!({"__type": error.kind, "message": error.message}).to_string();
        Self { status: error.status, error: Some(error.kind), body: body.into() }
    }
}

impl From<Result<Reply, ApiError>> for Reply {
    fn from(result: Result<Reply, ApiError>) -> Self {
        result.unwrap_or_else(Into::into)
    }
}
