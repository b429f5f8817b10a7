//! Connection settings as libpq understands them.
