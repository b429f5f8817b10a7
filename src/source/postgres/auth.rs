//! The log-in: start-up parameters and authentication.
//!
//! One strict state machine for every connection. It does no I/O: it takes the server's messages and writes
//! the responses. A message that is not allowed in the current state ends the log-in. So a server cannot
//! switch from SCRAM to a request for the clear-text password.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding as Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use crate::failure::Problem;

use super::conninfo::{ChannelBinding, Password, Settings, SettingsError};
use super::error::{Error, ServerError};
use super::parameters::{self, Purpose};
use super::require_auth::Method;

/// Properties of a connection before the log-in.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// Whether it is encrypted.
    pub tls: bool,
    /// Whether the server's identity is certain: a verified certificate, a Unix socket, or loopback.
    pub verified: bool,
    /// Channel binding data for SCRAM (`tls-server-end-point`); `None` without TLS or if the certificate has
    /// none.
    pub end_point: Option<Vec<u8>>,
}

/// Writes the first message of a connection.
///
/// # Errors
/// A value contains a zero byte.
pub fn startup(settings: &Settings, purpose: Purpose, out: &mut BytesMut) -> Result<(), Error> {
    if settings.user.is_empty() {
        let problem = "names no user, and $USER is not set".to_owned();
        let hint = "Name the role: postgres://user@host/database.".to_owned();
        return Err(SettingsError::Url { problem, hint }.into());
    }
    let options = parameters::options(settings, purpose);
    let mut parameters = vec![
        ("user", settings.user.as_str()),
        ("database", settings.database.as_str()),
        ("application_name", settings.application_name.as_str()),
        ("options", options.as_str()),
    ];
    if purpose == Purpose::Replication {
        parameters.push(("replication", "database"));
    }
    frontend::startup_message(parameters, out).map_err(unusable)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where map_err wants a function")]
fn unusable(error: std::io::Error) -> Error {
    refusal(error.to_string())
}

fn refusal(problem: impl Into<Problem>) -> Error {
    Error::Authentication(Box::new(problem.into()))
}

/// How far a log-in has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The server must send its next message.
    Pending,
    /// The server accepts commands.
    Ready,
}

/// One log-in over one connection.
pub struct LogIn<'a> {
    settings: &'a Settings,
    channel: Channel,
    state: State,
    /// Whether the log-in is bound to the TLS connection, as proved by the server.
    bound: bool,
    method: Option<Method>,
}

/// The last message sent, which decides the next messages allowed.
enum State {
    /// The start-up message. The server requests authentication or accepts the connection.
    Started,
    /// The password or its hash. The server accepts or rejects it.
    PasswordSent,
    /// The first SCRAM message. The server sends its salt.
    ScramStarted(Scram),
    /// The client's SCRAM proof. The server sends its own.
    ScramProved(Scram),
    /// Nothing since the server's proof was verified. The server sends `AuthenticationOk`.
    ScramVerified,
    /// Nothing since `AuthenticationOk`. The server sends parameters and a cancel key until it is ready.
    Admitted,
    /// The server is ready; the log-in is complete.
    Ready,
    /// The log-in failed.
    Failed,
}

struct Scram {
    exchange: ScramSha256,
    /// Whether SCRAM-SHA-256-PLUS is used. Not trusted until the server's proof is verified.
    binding: bool,
}

impl<'a> LogIn<'a> {
    /// A log-in on a connection whose start-up message was sent.
    ///
    /// # Errors
    /// Channel binding is required and impossible.
    pub fn new(settings: &'a Settings, channel: Channel) -> Result<Self, Error> {
        if settings.channel_binding == ChannelBinding::Require && channel.end_point.is_none() {
            let problem =
                "channel_binding=require needs TLS and a certificate signed by RSA or ECDSA with SHA-2";
            return Err(refusal(Problem::new(problem).with_hint("Use sslmode=require or more.")));
        }
        Ok(Self { settings, channel, state: State::Started, bound: false, method: None })
    }

    /// Handles a message of the server, and writes the response if there is one.
    ///
    /// # Errors
    /// The server reports an error, requests a method that is unsupported or not allowed, cannot prove that
    /// it knows the password, or sends a message that is not allowed now. Every later message is an error
    /// too.
    pub fn take(&mut self, message: &Message, out: &mut BytesMut) -> Result<Progress, Error> {
        self.state = match (std::mem::replace(&mut self.state, State::Failed), message) {
            (State::Ready | State::Failed, _) => return Err(unexpected("a message after the log-in")),
            (_, Message::ErrorResponse(body)) => {
                return Err(ServerError::read(body.fields()).map_err(unusable)?.into());
            }
            (State::Started, Message::AuthenticationOk) => {
                self.demand(Method::None)?;
                State::Admitted
            }
            (State::PasswordSent | State::ScramVerified, Message::AuthenticationOk)
            | (
                State::Admitted,
                Message::ParameterStatus(_) | Message::BackendKeyData(_) | Message::NoticeResponse(_),
            ) => State::Admitted,
            (State::ScramStarted(_) | State::ScramProved(_), Message::AuthenticationOk) => {
                return Err(refusal("the server did not prove that it knows the password"));
            }
            (State::Started, Message::AuthenticationCleartextPassword) => {
                self.demand(Method::Password)?;
                frontend::password_message(self.password()?.reveal(), out).map_err(unusable)?;
                State::PasswordSent
            }
            (State::Started, Message::AuthenticationMd5Password(body)) => {
                self.demand(Method::Md5)?;
                let user = self.settings.user.as_bytes();
                let hash = md5_hash(user, self.password()?.reveal(), body.salt());
                frontend::password_message(hash.as_bytes(), out).map_err(unusable)?;
                State::PasswordSent
            }
            (State::Started, Message::AuthenticationSasl(body)) => {
                State::ScramStarted(self.begin_scram(body, out)?)
            }
            (State::ScramStarted(mut scram), Message::AuthenticationSaslContinue(body)) => {
                scram.exchange.update(body.data()).map_err(unusable)?;
                frontend::sasl_response(scram.exchange.message(), out).map_err(unusable)?;
                State::ScramProved(scram)
            }
            (State::ScramProved(mut scram), Message::AuthenticationSaslFinal(body)) => {
                scram.exchange.finish(body.data()).map_err(|error| {
                    let problem = Problem::new("the server's proof that it knows the password is wrong");
                    refusal(problem.with_detail(error.to_string()))
                })?;
                self.bound = scram.binding;
                self.demand_binding(self.bound)?;
                State::ScramVerified
            }
            (
                State::Started,
                Message::AuthenticationKerberosV5
                | Message::AuthenticationScmCredential
                | Message::AuthenticationGss
                | Message::AuthenticationSspi,
            ) => {
                let problem =
                    Problem::new("the server requests GSS, SSPI or Kerberos, which Forebay does not support");
                let hint = "Use scram-sha-256 or cert in its pg_hba.conf.";
                return Err(refusal(problem.with_hint(hint)));
            }
            (State::Admitted, Message::ReadyForQuery(_)) => State::Ready,
            (state, message) => return Err(state.refuse(message)),
        };
        Ok(if matches!(self.state, State::Ready) { Progress::Ready } else { Progress::Pending })
    }

    fn begin_scram(&mut self, body: &AuthenticationSaslBody, out: &mut BytesMut) -> Result<Scram, Error> {
        self.demand_method(Method::Scram)?;
        let (mut plain, mut plus) = (false, false);
        let mut mechanisms = body.mechanisms();
        while let Some(mechanism) = mechanisms.next().map_err(unusable)? {
            plain |= mechanism == SCRAM_SHA_256;
            plus |= mechanism == SCRAM_SHA_256_PLUS;
        }
        let wanted = self.settings.channel_binding != ChannelBinding::Disable;
        let end_point = self.channel.end_point.clone().filter(|_| wanted);
        let (binding, mechanism) = match (plus, end_point) {
            (true, Some(hash)) => (Binding::tls_server_end_point(hash), SCRAM_SHA_256_PLUS),
            // `y`: binding was possible, so the server detects an attacker that removed PLUS from its list.
            (false, Some(_)) if plain => (Binding::unrequested(), SCRAM_SHA_256),
            // `n`: binding is impossible or disabled.
            (_, None) if plain => (Binding::unsupported(), SCRAM_SHA_256),
            _ => {
                return Err(refusal(
                    "the server offers no supported SASL mechanism; Forebay supports SCRAM-SHA-256",
                ));
            }
        };
        let binding_requested = mechanism == SCRAM_SHA_256_PLUS;
        self.demand_binding(binding_requested)?;
        self.method = Some(Method::Scram);
        let exchange = ScramSha256::new(self.password()?.reveal(), binding);
        frontend::sasl_initial_response(mechanism, exchange.message(), out).map_err(unusable)?;
        Ok(Scram { exchange, binding: binding_requested })
    }

    fn demand_binding(&self, bound: bool) -> Result<(), Error> {
        if self.settings.channel_binding != ChannelBinding::Require || bound {
            return Ok(());
        }
        let why = if self.channel.tls { "does not offer SCRAM-SHA-256-PLUS" } else { "does not use TLS" };
        Err(refusal(format!("channel_binding=require, but the server {why}")))
    }

    fn demand_method(&self, method: Method) -> Result<(), Error> {
        if self.settings.require_auth.allows(method) {
            return Ok(());
        }
        let asks = match method {
            Method::None => "requests no authentication",
            Method::Password => "requests the password in clear text",
            Method::Md5 => "requests the password's md5 hash",
            Method::Scram => "requests SCRAM",
        };
        Err(refusal(format!("the server {asks}, which require_auth in the URL does not allow")))
    }

    /// Checks whether a method other than SCRAM is allowed. None of them authenticates the server. Methods
    /// that reveal the password are allowed only if the server's identity is certain, or if the URL names
    /// them.
    fn demand(&mut self, method: Method) -> Result<(), Error> {
        self.demand_binding(false)?;
        self.demand_method(method)?;
        self.method = Some(method);
        let name = match method {
            Method::None | Method::Scram => return Ok(()),
            Method::Password => "password",
            Method::Md5 => "md5",
        };
        if self.channel.verified || self.settings.require_auth.names(method) {
            return Ok(());
        }
        let how = if method == Method::Password { "in clear text" } else { "as an md5 hash" };
        let tls =
            if self.channel.tls { "TLS without a verified certificate" } else { "a network without TLS" };
        let problem = Problem::new(format!("the server requests the password {how} over an unverified connection"))
            .with_detail(format!("the connection is {tls}, so the server may be an impostor"))
            .with_hint(format!(
                "Use scram-sha-256 in its pg_hba.conf, or sslmode=verify-full (with sslrootcert=… for a private authority). \
                 require_auth={name} in the URL sends the password nevertheless."
            ));
        Err(refusal(problem))
    }

    /// The requested method; `None` before the request.
    pub fn method(&self) -> Option<Method> {
        self.method
    }

    /// Whether the server's identity is certain: by the connection, or by channel binding.
    pub fn is_verified(&self) -> bool {
        self.channel.verified || self.bound
    }

    fn password(&self) -> Result<&'a Password, Error> {
        self.settings.password.as_ref().ok_or_else(|| no_password(self.settings))
    }
}

impl State {
    /// The error of a message that is not allowed in this state.
    fn refuse(&self, message: &Message) -> Error {
        let after = match self {
            Self::Started => "the start-up message",
            Self::PasswordSent => "the password",
            Self::ScramStarted(_) => "the first SCRAM message",
            Self::ScramProved(_) => "the SCRAM proof",
            Self::ScramVerified => "the end of SCRAM",
            Self::Admitted | Self::Ready | Self::Failed => "AuthenticationOk",
        };
        unexpected(&format!("{} after {after}", name(message)))
    }
}

/// The name of a log-in message in PostgreSQL's manual.
fn name(message: &Message) -> &'static str {
    match message {
        Message::AuthenticationOk => "AuthenticationOk",
        Message::AuthenticationCleartextPassword => "AuthenticationCleartextPassword",
        Message::AuthenticationMd5Password(_) => "AuthenticationMD5Password",
        Message::AuthenticationSasl(_) => "AuthenticationSASL",
        Message::AuthenticationSaslContinue(_) => "AuthenticationSASLContinue",
        Message::AuthenticationSaslFinal(_) => "AuthenticationSASLFinal",
        Message::NoticeResponse(_) => "NoticeResponse",
        Message::ParameterStatus(_) => "ParameterStatus",
        Message::BackendKeyData(_) => "BackendKeyData",
        Message::ReadyForQuery(_) => "ReadyForQuery",
        _ => "a message",
    }
}

fn unexpected(what: &str) -> Error {
    Error::Protocol(format!("{what} during log-in"))
}

/// The error if the server requests a password and none is configured.
fn no_password(settings: &Settings) -> Error {
    let problem = Problem::new(format!(
        "the server requests a password for {:?}, but none is configured",
        settings.user
    ))
    .with_hint("Set FOREBAY_SOURCE__PASSWORD, source.password_file, PGPASSFILE or the password in the URL.");
    refusal(match &settings.passfile_problem {
        Some(passfile) => problem.with_detail(format!("the password file cannot be used: {passfile}")),
        None => problem,
    })
}

impl std::fmt::Debug for LogIn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogIn")
            .field("channel", &self.channel)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
