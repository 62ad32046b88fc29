//! The second floor: paths, entries, virtual trees and changesets.

pub mod mode;

pub use mode::{ModeChange, ModeError, ModeSubject};
