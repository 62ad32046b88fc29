//! Users and groups of an image, from its `/etc/passwd` and `/etc/group`.

use std::collections::BTreeMap;

/// The users and groups of one tree, by name. Lines that make no sense are passed over, as every
/// C library does; of two lines with one name the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, u32>,
    /// Numbers of the groups that list a user as a member, by the user's name.
    memberships: BTreeMap<String, Vec<u32>>,
}

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User number.
    pub uid: u32,
    /// Number of the user's own group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

impl Accounts {
    /// Reads the two files.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Accounts {
        let mut accounts = Accounts::default();
        for fields in records(passwd) {
            if let [name, _, uid, gid, _, home, shell] = &fields[..]
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
            {
                let user = User {
                    uid,
                    gid,
                    home: home.clone(),
                    shell: shell.clone(),
                };
                accounts.users.entry(name.clone()).or_insert(user);
            }
        }
        for fields in records(group) {
            if let [name, _, gid, rest @ ..] = &fields[..]
                && let Ok(gid) = gid.parse()
            {
                accounts.groups.entry(name.clone()).or_insert(gid);
                let members = rest.first().map_or("", String::as_str).split(',');
                for member in members.filter(|member| !member.is_empty()) {
                    let of_member = accounts.memberships.entry(member.to_owned());
                    of_member.or_default().push(gid);
                }
            }
        }
        accounts
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// The name and line of a user with this number, the first by name if there are several.
    pub fn user_by_uid(&self, uid: u32) -> Option<(&str, &User)> {
        self.users
            .iter()
            .find(|(_, user)| user.uid == uid)
            .map(|(name, user)| (name.as_str(), user))
    }

    /// The number of the group of this name.
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied()
    }

    /// The numbers of the groups that list the user of this name, in order.
    pub fn groups_of(&self, name: &str) -> Vec<u32> {
        let mut groups = self.memberships.get(name).cloned().unwrap_or_default();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The name of a group with this number.
    pub fn group_by_gid(&self, gid: u32) -> Option<&str> {
        self.groups
            .iter()
            .find(|(_, found)| **found == gid)
            .map(|(name, _)| name.as_str())
    }

    /// The names of all users, for suggestions.
    pub fn user_names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// The names of all groups, for suggestions.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }
}

fn records(text: &[u8]) -> impl Iterator<Item = Vec<String>> {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        let accounts = Accounts::parse(
            b"root:x:0:0:root:/root:/bin/sh\nbad:x:one:0::/:\n# c\n\nshort:x:1\nroot:x:9:9:::\napp:x:1001:1002:,,,:/app:/sbin/nologin\n\xff:x:1:1::/:\n",
            b"root:x:0:\napp:*:1002:app\nno:x:\n",
        );
        assert_eq!(accounts.user("root").map(|user| user.uid), Some(0));
        let app = accounts.user("app").unwrap();
        assert_eq!((app.uid, app.gid, app.home.as_str()), (1001, 1002, "/app"));
        assert_eq!(accounts.user("bad"), None);
        assert_eq!(accounts.user_by_uid(1001).unwrap().0, "app");
        assert_eq!(accounts.group("app"), Some(1002));
        assert_eq!(accounts.group_by_gid(0), Some("root"));
        assert_eq!(accounts.group("no"), None);
        assert_eq!(accounts.groups_of("app"), [1002]);
        assert!(accounts.groups_of("root").is_empty());
        assert_eq!(accounts.user_names().collect::<Vec<_>>(), ["app", "root"]);
    }
}
