//! Users: who runs the container, resolved against the image's own account files.

use crate::image::error::UserError;
use crate::spec::nearest;
use crate::spec::{Identity, Owner, Spanned, UserAs};
use crate::tree::Accounts;

/// The user of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User number.
    pub uid: u32,
    /// Number of the group that the process will have.
    pub gid: u32,
    /// As the config says it: see [`resolve_user`].
    pub text: String,
}

/// Finds the numbers of `user`.
///
/// With [`UserAs::Numeric`] the text is `uid`, or `uid:gid` if the spec names a group. A group that
/// the spec does not name is not written: runtimes find the primary and all further groups of a
/// bare number in the image's own files, and take an explicit group for the only one. With
/// [`UserAs::Name`] the text is what the spec says.
///
/// A number needs no account; without one its group is 0, as in every runtime.
///
/// # Errors
/// A name that the image does not have.
pub fn resolve_user(
    user: &Spanned<Owner>,
    user_as: UserAs,
    accounts: &Accounts,
) -> Result<ResolvedUser, UserError> {
    let (uid, primary) = match &user.value.user {
        Identity::Id(uid) => {
            let account = accounts.user_by_uid(*uid);
            (*uid, account.map_or(0, |(_, account)| account.gid))
        }
        Identity::Name(name) => match accounts.user(name.as_str()) {
            Some(account) => (account.uid, account.gid),
            None => {
                return Err(UserError::UnknownUser {
                    name: name.clone(),
                    span: user.span,
                    nearest: nearest(name.as_str(), accounts.user_names()).map(str::to_owned),
                });
            }
        },
    };
    let group = match &user.value.group {
        None => None,
        Some(Identity::Id(gid)) => Some(*gid),
        Some(Identity::Name(name)) => match accounts.group(name.as_str()) {
            Some(gid) => Some(gid),
            None => {
                return Err(UserError::UnknownGroup {
                    name: name.clone(),
                    span: user.span,
                    nearest: nearest(name.as_str(), accounts.group_names()).map(str::to_owned),
                });
            }
        },
    };
    let text = match (user_as, group) {
        (UserAs::Name, _) => user.value.to_string(),
        (UserAs::Numeric, Some(gid)) => format!("{uid}:{gid}"),
        (UserAs::Numeric, None) => uid.to_string(),
    };
    let gid = group.unwrap_or(primary);
    Ok(ResolvedUser { uid, gid, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Span;

    fn resolve(text: &str, user_as: UserAs) -> Result<(u32, u32, String), String> {
        let accounts = Accounts::parse(
            b"root:x:0:0:root:/root:/bin/sh\nnodejs:x:1001:1002::/app:/sbin/nologin\n",
            b"root:x:0:\nnodejs:x:1002:\nwww-data:x:33:\n",
        );
        let owner = Spanned::new(text.parse().unwrap(), Span::new(3, 9));
        resolve_user(&owner, user_as, &accounts)
            .map(|user| (user.uid, user.gid, user.text))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_become_numbers() {
        for (text, uid, gid, numeric, named) in [
            ("nodejs", 1001, 1002, "1001", "nodejs"),
            ("nodejs:www-data", 1001, 33, "1001:33", "nodejs:www-data"),
            ("nodejs:5", 1001, 5, "1001:5", "nodejs:5"),
            ("1001", 1001, 1002, "1001", "1001"),
            ("65532", 65532, 0, "65532", "65532"),
            ("65532:65532", 65532, 65532, "65532:65532", "65532:65532"),
            ("root", 0, 0, "0", "root"),
        ] {
            let expected = |shown: &str| Ok((uid, gid, shown.to_owned()));
            assert_eq!(resolve(text, UserAs::Numeric), expected(numeric));
            assert_eq!(resolve(text, UserAs::Name), expected(named));
        }
    }

    #[test]
    fn a_missing_account_is_an_error_in_either_form() {
        for (text, why) in [
            (
                "nodjs",
                "find user nodjs in the image's /etc/passwd; did you mean `nodejs`?",
            ),
            (
                "postgres",
                "find user postgres in the image's /etc/passwd; create it under `users`, or write a number",
            ),
            (
                "nodejs:wwwdata",
                "find group wwwdata in the image's /etc/group; did you mean `www-data`?",
            ),
        ] {
            for user_as in [UserAs::Numeric, UserAs::Name] {
                assert_eq!(resolve(text, user_as), Err(why.to_owned()));
            }
        }
    }
}
