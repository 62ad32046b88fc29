//! A user without any right, which the tests make, and programs that run as that user.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

/// The name of the user.
const USER: &str = "boxwright-test";

/// User and group of the plain user, made when first wanted; only root can.
pub(crate) fn plain_user() -> (u32, u32) {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().expect("make the user");
    let line = || {
        let passwd = fs::read_to_string("/etc/passwd").expect("read the users");
        let line = passwd
            .lines()
            .find(|line| line.starts_with(&format!("{USER}:")))?;
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
    };
    line().unwrap_or_else(|| {
        let made = Command::new("useradd")
            .args(["--no-create-home", USER])
            .status();
        assert!(made.expect("start useradd").success(), "useradd failed");
        line().expect("the user that was made")
    })
}

/// A program that runs as the plain user, without a capability.
pub(crate) fn as_plain_user(program: impl AsRef<OsStr>) -> Command {
    let (user, group) = plain_user();
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={group}")]);
    command
        .args(["--clear-groups", "--inh-caps=-all"])
        .arg(program);
    command
}

/// Gives a folder and all in it to the plain user.
pub(crate) fn give_away(path: &Path) {
    let (user, group) = plain_user();
    let found = fs::symlink_metadata(path).expect("look at what is given away");
    std::os::unix::fs::lchown(path, Some(user), Some(group)).expect("give it away");
    if found.is_dir() {
        for entry in fs::read_dir(path).expect("list a folder") {
            give_away(&entry.expect("list a folder").path());
        }
    }
}
