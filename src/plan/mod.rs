//! Room 2: spec → plan.

pub mod key;
