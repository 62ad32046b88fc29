//! One binary of integration tests; one line of purpose per module.
