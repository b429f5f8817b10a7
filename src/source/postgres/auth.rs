//! Log-in: who we are, what the session must look like, and the proof of the password.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding as Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::conninfo::{ChannelBinding, Password, Settings};
use super::error::Error;
use super::socket::Socket;

/// What text values and decoding rely on, whatever the role's or database's own settings say. WARNINGs must arrive:
/// PostgreSQL 18 only warns when a publication is gone.
const SESSION: &str = "-c client_encoding=UTF8 -c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC \
    -c extra_float_digits=3 -c bytea_output=hex -c client_min_messages=warning -c lc_monetary=C \
    -c search_path=pg_catalog -c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 \
    -c default_transaction_read_only=off";

/// Why a password is not given to a server that asks for it.
pub(super) const CLEAR_TEXT: &str = "the server wants the password in clear text over a network without TLS; use \
    sslmode=verify-full, or scram-sha-256 in its pg_hba.conf";

/// The session's command-line options: the user's, then ours, which win.
pub fn session_options(settings: &Settings) -> String {
    match &settings.options {
        Some(options) => format!("{options} {SESSION}"),
        None => SESSION.to_owned(),
    }
}

/// The first message of a replication connection.
///
/// # Errors
/// A value holds a zero byte.
pub fn startup(settings: &Settings, out: &mut BytesMut) -> Result<(), Error> {
    let options = session_options(settings);
    let parameters = [
        ("user", settings.user.as_str()),
        ("database", settings.database.as_str()),
        ("replication", "database"),
        ("application_name", settings.application_name.as_str()),
        ("options", options.as_str()),
    ];
    frontend::startup_message(parameters, out).map_err(unusable)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where map_err wants a function")]
fn unusable(error: std::io::Error) -> Error {
    Error::Authentication(error.to_string())
}

#[expect(clippy::struct_excessive_bools, reason = "four facts that do not depend on each other")]
/// The state of one log-in. Pure: it is fed the server's messages and writes our answers.
pub struct LogIn<'a> {
    settings: &'a Settings,
    private: bool,
    tls: bool,
    end_point: Option<Vec<u8>>,
    scram: Option<ScramSha256>,
    bound: bool,
    server_proved: bool,
}

impl<'a> LogIn<'a> {
    /// A log-in over this socket.
    ///
    /// # Errors
    /// Channel binding is required and impossible.
    pub fn new(settings: &'a Settings, socket: &Socket) -> Result<Self, Error> {
        let end_point = socket.server_end_point();
        if settings.channel_binding == ChannelBinding::Require && end_point.is_none() {
            return Err(Error::Authentication(
                "channel_binding=require needs TLS (sslmode=require or more) and a certificate that is signed by RSA or \
                 ECDSA with SHA-2"
                    .to_owned(),
            ));
        }
        Ok(Self {
            settings,
            private: socket.is_private(),
            tls: socket.is_tls(),
            end_point,
            scram: None,
            bound: false,
            server_proved: false,
        })
    }

    /// Answers one of the server's messages; true when the server lets us in.
    ///
    /// # Errors
    /// It wants what we cannot or must not give, or cannot prove itself.
    pub fn answer(&mut self, message: &Message, out: &mut BytesMut) -> Result<bool, Error> {
        match message {
            Message::AuthenticationOk => {
                if self.scram.is_some() && !self.server_proved {
                    return Err(Error::Authentication(
                        "the server skipped the proof that it knows the password".to_owned(),
                    ));
                }
                self.demand_binding()?;
                return Ok(true);
            }
            Message::AuthenticationCleartextPassword => {
                self.demand_binding()?;
                if !self.private {
                    return Err(Error::Authentication(CLEAR_TEXT.to_owned()));
                }
                frontend::password_message(self.password()?.reveal(), out).map_err(unusable)?;
            }
            Message::AuthenticationMd5Password(body) => {
                self.demand_binding()?;
                let user = self.settings.user.as_bytes();
                let hash = md5_hash(user, self.password()?.reveal(), body.salt());
                frontend::password_message(hash.as_bytes(), out).map_err(unusable)?;
            }
            Message::AuthenticationSasl(body) => self.begin_scram(body, out)?,
            Message::AuthenticationSaslContinue(body) => {
                let scram = self.scram.as_mut().ok_or_else(|| out_of_order("SASLContinue"))?;
                scram.update(body.data()).map_err(unusable)?;
                frontend::sasl_response(scram.message(), out).map_err(unusable)?;
            }
            Message::AuthenticationSaslFinal(body) => {
                let scram = self.scram.as_mut().ok_or_else(|| out_of_order("SASLFinal"))?;
                scram.finish(body.data()).map_err(|error| {
                    Error::Authentication(format!(
                        "the server does not prove that it knows the password: {error}"
                    ))
                })?;
                self.server_proved = true;
            }
            _ => {
                return Err(Error::Authentication(
                    "the server wants a kind that Forebay does not have (GSS, SSPI or Kerberos); use scram-sha-256 or a \
                     client certificate in its pg_hba.conf"
                        .to_owned(),
                ));
            }
        }
        Ok(false)
    }

    fn begin_scram(&mut self, body: &AuthenticationSaslBody, out: &mut BytesMut) -> Result<(), Error> {
        let (mut plain, mut plus) = (false, false);
        let mut mechanisms = body.mechanisms();
        while let Some(mechanism) = mechanisms.next().map_err(unusable)? {
            plain |= mechanism == SCRAM_SHA_256;
            plus |= mechanism == SCRAM_SHA_256_PLUS;
        }
        let wanted = self.settings.channel_binding != ChannelBinding::Disable;
        let end_point = self.end_point.take().filter(|_| wanted);
        let (binding, mechanism) = match (plus, end_point) {
            (true, Some(hash)) => {
                self.bound = true;
                (Binding::tls_server_end_point(hash), SCRAM_SHA_256_PLUS)
            }
            // `y`: we could have bound it, so the server finds out if somebody in between took PLUS off its list.
            (false, Some(_)) if plain => (Binding::unrequested(), SCRAM_SHA_256),
            // `n`: we could not, or were told not to.
            (_, None) if plain => (Binding::unsupported(), SCRAM_SHA_256),
            _ => {
                return Err(Error::Authentication(
                    "the server offers no mechanism that Forebay has; it has SCRAM-SHA-256".to_owned(),
                ));
            }
        };
        self.demand_binding()?;
        let scram = ScramSha256::new(self.password()?.reveal(), binding);
        frontend::sasl_initial_response(mechanism, scram.message(), out).map_err(unusable)?;
        self.scram = Some(scram);
        Ok(())
    }

    fn demand_binding(&self) -> Result<(), Error> {
        if self.settings.channel_binding != ChannelBinding::Require || self.bound {
            return Ok(());
        }
        let why = if self.tls { "does not offer SCRAM-SHA-256-PLUS" } else { "does not use TLS" };
        Err(Error::Authentication(format!("channel_binding=require, but the server {why}")))
    }

    fn password(&self) -> Result<&'a Password, Error> {
        self.settings.password.as_ref().ok_or_else(|| no_password(self.settings))
    }
}

/// The server wants a password, and we have none.
pub(super) fn no_password(settings: &Settings) -> Error {
    Error::Authentication(format!(
        "the server wants a password for {:?} and there is none; put it into FOREBAY_SOURCE__PASSWORD, password_file, \
         PGPASSFILE or the URL",
        settings.user
    ))
}

fn out_of_order(what: &str) -> Error {
    Error::Protocol(format!("{what} before the exchange had begun"))
}

impl std::fmt::Debug for LogIn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogIn").field("tls", &self.tls).field("bound", &self.bound).finish_non_exhaustive()
    }
}
