//! Who a container's process is, as runtimes read the `User` of an image's config.

use thiserror::Error;

use crate::sandbox::job::RunUser;
use crate::tree::Accounts;

/// A name that the image's account files do not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the image's /etc/{file} has no {name:?}, which its config names")]
pub struct UnknownUser {
    file: &'static str,
    name: String,
}

/// The user that `text` names, with the home directory: `user[:group]`, names or numbers; empty is
/// root.
///
/// As in podman and docker a user without a group has all groups that the image gives it, and one
/// with a group has only that; a number needs no account, and is then of group 0.
///
/// # Errors
/// A name that the image does not have.
pub fn run_user(text: &str, accounts: &Accounts) -> Result<(RunUser, String), UnknownUser> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let unknown = |file, name: &str| UnknownUser {
        file,
        name: name.to_owned(),
    };
    // A name may be all digits, and then goes before the number.
    let named = accounts.user(user).map(|account| (user, account));
    let (uid, known) = match (named, user.parse::<u32>()) {
        (Some((_, account)), _) => (account.uid, named),
        (None, Ok(uid)) => (uid, accounts.user_by_uid(uid)),
        (None, Err(_)) => return Err(unknown("passwd", user)),
    };
    let home = known.map_or("/", |(_, account)| account.home.as_str());
    let home = if home.is_empty() { "/" } else { home };
    let (gid, groups) = match group {
        Some(group) => {
            let gid = accounts.group(group).or_else(|| group.parse().ok());
            (gid.ok_or_else(|| unknown("group", group))?, Vec::new())
        }
        None => {
            let gid = known.map_or(0, |(_, account)| account.gid);
            let groups = known.map_or_else(Vec::new, |(name, _)| accounts.groups_of(name));
            (gid, groups)
        }
    };
    Ok((RunUser { uid, gid, groups }, home.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_as_runtimes_do() {
        let accounts = Accounts::parse(
            b"root:x:0:0:root:/root:/bin/sh\nweb:x:1001:1002::/srv:/sbin/nologin\n7:x:70:70::/seven:\n",
            b"root:x:0:\nweb:x:1002:\nlogs:x:33:web\nadm:x:4:web\n",
        );
        for (text, uid, gid, groups, home) in [
            ("", 0, 0, &[][..], "/root"),
            ("web", 1001, 1002, &[4, 33], "/srv"),
            ("1001", 1001, 1002, &[4, 33], "/srv"),
            ("web:logs", 1001, 33, &[], "/srv"),
            ("1001:5", 1001, 5, &[], "/srv"),
            ("65532", 65532, 0, &[], "/"),
            ("65532:65532", 65532, 65532, &[], "/"),
            ("7", 70, 70, &[], "/seven"),
        ] {
            let groups = groups.to_vec();
            let expected = (RunUser { uid, gid, groups }, home.to_owned());
            assert_eq!(run_user(text, &accounts), Ok(expected), "{text}");
        }
        let why = |text| run_user(text, &accounts).unwrap_err().to_string();
        assert_eq!(
            why("wed"),
            "the image's /etc/passwd has no \"wed\", which its config names"
        );
        assert_eq!(
            why("web:no"),
            "the image's /etc/group has no \"no\", which its config names"
        );
    }
}
