//! A plain user of the machine, made when a test first wants one.

use std::fs;
use std::process::Command;
use std::sync::Mutex;

const USER: &str = "boxwright-test";

/// Its ids. Only root can make it.
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
