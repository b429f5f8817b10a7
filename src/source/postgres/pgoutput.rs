//! The pgoutput protocol, version 1, text: bytes become messages.
