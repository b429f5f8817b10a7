//! Whole requests are filled across keys.
