//! What the catalogue says of types and keys.
