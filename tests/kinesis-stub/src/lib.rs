//! A scriptable Amazon Kinesis.
