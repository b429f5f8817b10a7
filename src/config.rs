//! File and environment become checked settings.
