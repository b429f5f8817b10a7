//! Values of rows as JSON, as `to_jsonb()` prints them.
