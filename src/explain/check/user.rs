//! BW001, BW002, BW015, BW016, BW017, BW019: who runs the container, and what it is built on.
//!
//! `config.User` is `user[:group]`, names or numbers; absent means root. OCI image spec,
//! `config.md`, "User".

use crate::explain::check::View;
use crate::explain::check::code::Code;
use crate::explain::check::finding::{Below, Finding, Findings};
use crate::explain::error::ExplainError;
use crate::tree::{Accounts, Entry, LayerPath};

/// As whom the container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The number; `None` if a name was written that does not exist.
    pub(crate) uid: Option<u32>,
    /// The group and, where a runtime adds them, the user's further groups.
    pub(crate) groups: Vec<u32>,
    /// A user's name that does not exist.
    unknown_user: Option<String>,
    /// A group's name that does not exist.
    unknown_group: Option<String>,
    /// Whether the user is written as a name.
    named: bool,
    /// Whether the user has a line in `/etc/passwd`.
    listed: bool,
}

/// `/etc/passwd` and `/etc/group` are read up to here; runtimes stop there, too.
const MOST_ACCOUNTS: usize = 1 << 20;

impl Identity {
    /// Reads `config.User` with the image's own accounts.
    pub(crate) fn of(view: &View<'_>) -> Result<Identity, ExplainError> {
        let file = |text: &str| {
            let found = view.find(&LayerPath::root(), text.as_bytes());
            found.map_or(Ok(Vec::new()), |(path, _)| view.head(&path, MOST_ACCOUNTS))
        };
        let (passwd, group) = (file("etc/passwd")?, file("etc/group")?);
        let accounts = Accounts::parse(&passwd, &group);
        Ok(Identity::parse(
            &view.subject.config.config.user,
            &accounts,
            &group,
        ))
    }

    fn parse(text: &str, accounts: &Accounts, group_file: &[u8]) -> Identity {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let number = user.parse::<u32>().ok();
        let line = match number {
            // As runtimes do: a name of digits is looked for before it is taken as a number.
            Some(uid) => accounts
                .user(user)
                .map(|line| (user, line))
                .or_else(|| accounts.user_by_uid(uid)),
            None => accounts.user(user).map(|line| (user, line)),
        };
        let gid = match group {
            Some(group) => accounts.group(group).or_else(|| group.parse().ok()),
            None => Some(line.map_or(0, |(_, line)| line.gid)),
        };
        let mut groups: Vec<u32> = gid.into_iter().collect();
        if group.is_none()
            && let Some((name, _)) = line
        {
            groups.extend(memberships(group_file, name));
        }
        Identity {
            uid: line.map(|(_, line)| line.uid).or(number),
            groups,
            unknown_user: (line.is_none() && number.is_none()).then(|| user.to_owned()),
            unknown_group: gid.is_none().then(|| group.unwrap_or_default().to_owned()),
            named: number.is_none(),
            listed: line.is_some(),
        }
    }

    /// Whether the container runs as root.
    pub(crate) fn is_root(&self) -> bool {
        self.uid == Some(0)
    }

    /// Whether a bit that is shifted by 6 for the owner, 3 for the group and 0 for everybody
    /// else is set for this user. Root may read and search everything, and execute what anybody
    /// may. A user who is not known has the rights of everybody.
    pub(crate) fn may(&self, entry: &Entry, bit: u16) -> bool {
        let mode = entry.mode;
        match self.uid {
            Some(0) => entry.is_directory() || bit != EXECUTE || mode & 0o111 != 0,
            Some(uid) if uid == entry.uid => mode >> 6 & bit != 0,
            _ if self.groups.contains(&entry.gid) => mode >> 3 & bit != 0,
            _ => mode & bit != 0,
        }
    }

    /// The user as a person would name it.
    pub(crate) fn shown(&self) -> String {
        match (self.uid, &self.unknown_user) {
            (Some(0), _) => "root".to_owned(),
            (Some(uid), _) => format!("uid {uid}"),
            (None, Some(name)) => format!("user {name:?}"),
            (None, None) => "the user".to_owned(),
        }
    }
}

/// Permission to execute a file or search a directory.
pub(crate) const EXECUTE: u16 = 1;
/// Permission to read.
pub(crate) const READ: u16 = 4;

/// The groups whose lines in `/etc/group` list `name` as a member.
fn memberships(group_file: &[u8], name: &str) -> Vec<u32> {
    let text = String::from_utf8_lossy(group_file);
    let gid_with_member = |line: &str| {
        let mut fields = line.trim_end_matches('\r').split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        fields
            .next()?
            .split(',')
            .any(|member| member == name)
            .then_some(gid)
    };
    text.lines().filter_map(gid_with_member).collect()
}

/// Applies the rules.
pub(crate) fn judge(view: &View<'_>, identity: &Identity, findings: &mut Findings) {
    let config = &view.subject.config.config;
    let mut find =
        |code, message| findings.push(Finding::about_config(code, message), Below::Counted);
    if identity.is_root() {
        find(Code::RootUser, root_message(&config.user));
    }
    if let Some(stage) = view.subject.build_stage {
        let message = format!("the image is built from stage {stage:?}, which runs commands");
        find(Code::BuildStage, message);
    }
    if let Some(name) = &identity.unknown_user {
        let message = format!("user {name:?} is not in /etc/passwd, so no container can start");
        find(Code::UnknownUser, message);
    }
    if let Some(name) = &identity.unknown_group {
        let message = format!("group {name:?} is not in /etc/group, so no container can start");
        find(Code::UnknownUser, message);
    }
    if let (Some(uid), false) = (identity.uid, identity.listed || identity.is_root()) {
        let message = format!("uid {uid} is not in /etc/passwd, so it has no name and no home");
        find(Code::UnnamedUser, message);
    }
    if identity.named && identity.listed && !identity.is_root() {
        let message = format!("the user is written as {:?}, not as a number", config.user);
        find(Code::NamedUser, message);
    }
    if identity.is_root() {
        return;
    }
    for port in &config.exposed_ports {
        let number = port
            .split('/')
            .next()
            .and_then(|number| number.parse::<u16>().ok());
        if number.is_some_and(|number| number < 1024) {
            let message = format!(
                "port {port} is exposed, and {} is not root",
                identity.shown()
            );
            find(Code::LowPort, message);
        }
    }
}

fn root_message(user: &str) -> String {
    if user.is_empty() {
        "the config names no user, so the container runs as root".to_owned()
    } else {
        format!("the user is {user:?}, so the container runs as root")
    }
}
