//! `users` and `groups`: lines of `/etc/passwd`, `/etc/group` and `/etc/shadow`.
//!
//! Lines are added behind what is there, which stays byte for byte.

use crate::spec::{Identity, NewGroup, NewUser, Span, Spanned, Stage};
use crate::steps::edit::Edit;
use crate::steps::error::StepError;
use crate::steps::owner;
use crate::steps::scene::{ReadContent, complain, read_small};
use crate::tree::{Accounts, Changeset, Entry, Follow, LayerPath, Tree, User};

/// What the stage's users and groups change; nothing if it has none, or if all of them are there.
///
/// # Errors
/// A name or number that stands for something else already, or a file that cannot be read.
pub fn add_accounts(
    stage: &Stage,
    tree: &Tree,
    read: &ReadContent<'_>,
) -> Result<Changeset, StepError> {
    let mut edit = Edit::new(tree, None);
    let Some(first) = stage
        .users
        .first()
        .map(|user| user.name.span)
        .or(stage.groups.first().map(|group| group.name.span))
    else {
        return Ok(edit.finish());
    };
    let open = |path, mode| AccountFile::open(tree, path, mode, first, read);
    let mut passwd = open("/etc/passwd", 0o644)?;
    let mut group = open("/etc/group", 0o644)?;
    let mut shadow = open("/etc/shadow", 0o640)?;
    for new in &stage.groups {
        add_group(new.name.as_str(), new.gid.value, &passwd, &mut group, new)?;
    }
    for new in &stage.users {
        add_user(new, &mut passwd, &mut group, &mut shadow)?;
    }
    for file in [passwd, group, shadow] {
        file.finish(&mut edit, first)?;
    }
    Ok(edit.finish())
}

/// One of the files, with what is added to it.
struct AccountFile {
    path: LayerPath,
    entry: Option<Entry>,
    mode: u16,
    text: Vec<u8>,
    is_changed: bool,
}

impl AccountFile {
    fn open(
        tree: &Tree,
        path: &str,
        mode: u16,
        span: Span,
        read: &ReadContent<'_>,
    ) -> Result<AccountFile, StepError> {
        let resolved = tree
            .resolve(&LayerPath::root(), path.as_bytes(), Follow::Last)
            .map_err(complain(span))?;
        let entry = tree.entry(&resolved.path).cloned();
        let text = match entry.as_ref().map(Entry::as_file) {
            None => Vec::new(),
            Some(Some(file)) => read_small(read, &file.content).map_err(|cause| {
                StepError::new(span, format!("{path} of the image cannot be read: {cause}"))
            })?,
            Some(None) => {
                return Err(
                    StepError::new(span, format!("{path} of the image is not a file"))
                        .help("remove it in an earlier stage"),
                );
            }
        };
        Ok(AccountFile {
            path: resolved.path,
            entry,
            mode,
            text,
            is_changed: false,
        })
    }

    fn add(&mut self, line: &str) {
        if !self.text.is_empty() && !self.text.ends_with(b"\n") {
            self.text.push(b'\n');
        }
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
        self.is_changed = true;
    }

    fn has(&self, name: &str) -> bool {
        let prefix = format!("{name}:");
        self.text
            .split(|&byte| byte == b'\n')
            .any(|line| line.starts_with(prefix.as_bytes()))
    }

    /// Adds a member to the last field of a group's line.
    fn add_member(&mut self, group: &str, member: &str) {
        let prefix = format!("{group}:");
        let mut lines: Vec<Vec<u8>> = self
            .text
            .split(|&byte| byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let Some(line) = lines
            .iter_mut()
            .find(|line| line.starts_with(prefix.as_bytes()))
        else {
            return;
        };
        let members = line
            .rsplit(|&byte| byte == b':')
            .next()
            .unwrap_or_default()
            .to_vec();
        if members
            .split(|&byte| byte == b',')
            .any(|known| known == member.as_bytes())
        {
            return;
        }
        if !members.is_empty() {
            line.push(b',');
        }
        line.extend_from_slice(member.as_bytes());
        self.text = lines.join(&b'\n');
        self.is_changed = true;
    }

    fn finish(self, edit: &mut Edit<'_>, span: Span) -> Result<(), StepError> {
        if !self.is_changed {
            return Ok(());
        }
        let new = Entry::file(self.text, self.mode);
        let entry = match self.entry {
            // What stands there keeps its owner, mode and attributes.
            Some(standing) => Entry {
                node: new.node,
                mtime: 0,
                ..standing
            },
            None => new,
        };
        edit.put(self.path, entry, span)
    }
}

fn accounts(passwd: &AccountFile, group: &AccountFile) -> Accounts {
    Accounts::parse(&passwd.text, &group.text)
}

fn add_group(
    name: &str,
    gid: u32,
    passwd: &AccountFile,
    group: &mut AccountFile,
    new: &NewGroup,
) -> Result<(), StepError> {
    let known = accounts(passwd, group);
    match (known.group(name), known.group_by_gid(gid)) {
        (Some(number), _) if number == gid => Ok(()),
        (Some(number), _) => Err(StepError::new(
            new.name.span,
            format!("the image has a group {name:?} already, with number {number}"),
        )
        .help(format!("write `gid: {number}`, or choose another name"))),
        (None, Some(other)) => Err(StepError::new(
            new.gid.span,
            format!("number {gid} is that of the group {other:?} already"),
        )
        .help("choose another number")),
        (None, None) => {
            group.add(&format!("{name}:x:{gid}:"));
            Ok(())
        }
    }
}

fn add_user(
    new: &NewUser,
    passwd: &mut AccountFile,
    group: &mut AccountFile,
    shadow: &mut AccountFile,
) -> Result<(), StepError> {
    let (name, uid) = (new.name.as_str(), new.uid.value);
    let known = accounts(passwd, group);
    let gid = new.gid.as_ref().map_or(uid, |gid| gid.value);
    let home = new.home.as_ref().map_or("/", |home| home.as_str());
    let shell = new
        .shell
        .as_ref()
        .map_or("/sbin/nologin", |shell| shell.as_str());
    check_fields(new)?;
    match (known.user(name), known.user_by_uid(uid)) {
        (Some(user), _) if user.uid == uid && user.gid == gid => same_login(new, user)?,
        (Some(user), _) => {
            let message = format!(
                "the image has a user {name:?} already, with numbers {}:{}",
                user.uid, user.gid
            );
            return Err(StepError::new(new.name.span, message)
                .help("take these numbers, or choose another name"));
        }
        (None, Some((other, _))) => {
            let message = format!("number {uid} is that of the user {other:?} already");
            return Err(StepError::new(new.uid.span, message)
                .help("choose another number, or use that user"));
        }
        (None, None) => {
            own_group(new, name, gid, &known, group)?;
            passwd.add(&format!("{name}:x:{uid}:{gid}::{home}:{shell}"));
            if !shadow.has(name) {
                // No password, and no day: the day of the build has no place in an image.
                shadow.add(&format!("{name}:!:::::::"));
            }
        }
    }
    for further in &new.groups {
        join(name, further, passwd, group)?;
    }
    Ok(())
}

/// Home and shell stand between the colons of one line.
fn check_fields(new: &NewUser) -> Result<(), StepError> {
    for field in [&new.home, &new.shell].into_iter().flatten() {
        let breaks_line = |c: char| c == ':' || c.is_control();
        if field.as_str().contains(breaks_line) {
            return Err(StepError::new(
                field.span,
                format!("{:?} cannot stand in /etc/passwd", field.as_str()),
            )
            .help("choose a path without colons and control characters"));
        }
    }
    Ok(())
}

/// A user that is there already is left alone, so what the spec says of it must hold.
fn same_login(new: &NewUser, user: &User) -> Result<(), StepError> {
    let fields = [
        ("home", &new.home, &user.home),
        ("shell", &new.shell, &user.shell),
    ];
    for (what, wanted, standing) in fields {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.as_str() != standing) {
            let message = format!(
                "the image has a user {:?} already, with {what} {standing:?}",
                new.name.as_str()
            );
            return Err(StepError::new(wanted.span, message).help(format!(
                "leave {what} out, or choose another name and number"
            )));
        }
    }
    Ok(())
}

/// A user's own group is made with the user's name, unless its number has a name already.
fn own_group(
    new: &NewUser,
    name: &str,
    gid: u32,
    known: &Accounts,
    group: &mut AccountFile,
) -> Result<(), StepError> {
    match (known.group_by_gid(gid), known.group(name)) {
        (Some(_), _) => Ok(()),
        (None, None) => {
            group.add(&format!("{name}:x:{gid}:"));
            Ok(())
        }
        (None, Some(number)) => {
            let message = format!(
                "the image has a group {name:?} with number {number}, but the user's group would be {gid}"
            );
            Err(StepError::new(new.name.span, message).help(format!(
                "write `gid: {number}`, or declare a group with number {gid}"
            )))
        }
    }
}

fn join(
    name: &str,
    further: &Spanned<Identity>,
    passwd: &AccountFile,
    group: &mut AccountFile,
) -> Result<(), StepError> {
    let known = accounts(passwd, group);
    let gid = owner::group_number(&further.value, &known, further.span)?;
    let group_name = known.group_by_gid(gid).map(str::to_owned).ok_or_else(|| {
        StepError::new(
            further.span,
            format!("the image has no group with number {gid}"),
        )
        .help("declare it under groups:")
    })?;
    group.add_member(&group_name, name);
    Ok(())
}

#[cfg(test)]
mod tests;
