//! One binary of integration tests; one line of purpose per module.

mod spec_errors; // every wrong spec gives the diagnostics of its golden
