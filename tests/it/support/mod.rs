//! What the tests stand on: a sandbox, trees written as text, listings, images made by hand, and
//! foreign tools.
//!
//! Nothing here uses the library under test: images are written and read by independent code (the
//! `tar` crate, `serde_json`, plain bytes), so that a mistake of ours cannot agree with itself.

pub(crate) mod busybox;
pub(crate) mod fault_server;
pub(crate) mod file_set;
pub(crate) mod gate;
pub(crate) mod hostile;
pub(crate) mod image_fixture;
pub(crate) mod image_reader;
pub(crate) mod listing;
pub(crate) mod mount;
pub(crate) mod nasty;
pub(crate) mod peers;
pub(crate) mod plain_user;
pub(crate) mod process;
pub(crate) mod raw_tar;
pub(crate) mod registry;
pub(crate) mod rich;
pub(crate) mod sandbox;
pub(crate) mod seccomp;
pub(crate) mod served;
pub(crate) mod source;
pub(crate) mod strict_registry;
pub(crate) mod token_server;
pub(crate) mod tree_text;
pub(crate) mod yaml;
