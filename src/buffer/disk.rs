//! The one home of fsync rules, locks and disk errors.
