//! The one question a loop asks of an error: does it pass by itself, or must a person act?
//!
//! Each module that does I/O has its own error type and decides the severity in one exhaustive `From` for [`Failure`].

use std::error::Error;
use std::fmt;

/// Why an attempt of a loop ended.
#[derive(Debug)]
pub enum Failure {
    /// It passes by itself: the loop is started again after a pause. Logged as WARN.
    Retry(Box<dyn Error + Send + Sync>),
    /// Going on would break a promise, or cannot help: the process stops. Logged as ERROR; says what to do.
    Stop(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure that passes by itself.
    pub fn retry(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Retry(error.into())
    }

    /// A failure that needs a person.
    pub fn stop(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Stop(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Retry(error) | Self::Stop(error)) = self;
        write!(f, "{error}")?;
        let mut cause = error.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for Failure {}
