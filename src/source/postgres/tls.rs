//! One TLS configuration for all connections to Postgres.
