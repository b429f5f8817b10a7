//! The stream itself, on the AWS SDK.
