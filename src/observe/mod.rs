//! Metrics, books and health.
