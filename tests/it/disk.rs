//! A disk that fails under the real daemon: full, out of order, or without power. Nothing is lost, and the
//! log names what failed, where, why and what to do.
//!
//! Most of it needs root, loop devices and strace, on Linux. Without root, or where the kernel gives no loop device (most
//! containers), these tests say so and pass; a program that is missing comes with scripts/setup.

mod broken;
mod errors;
mod foreign;
mod full;
mod powercut;
pub mod rig;
pub mod tracer;
mod volume;
