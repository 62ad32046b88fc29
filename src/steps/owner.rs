//! Names of owners become numbers, by the account files of the stage's own tree.

use crate::spec::{Identity, Owner, Span, Spanned};
use crate::steps::error::StepError;
use crate::tree::Accounts;

/// The numbers of an owner of files. Without a group, a named user brings its own group, and a
/// number stands for user and group, as with `COPY --chown`.
///
/// # Errors
/// A name that the tree does not have.
pub fn numbers(owner: &Spanned<Owner>, accounts: &Accounts) -> Result<(u32, u32), StepError> {
    let (uid, own_group) = match &owner.user {
        Identity::Id(id) => (*id, *id),
        Identity::Name(name) => user(name.as_str(), accounts, owner.span)?,
    };
    let gid = match &owner.group {
        None => own_group,
        Some(group) => group_number(group, accounts, owner.span)?,
    };
    Ok((uid, gid))
}

/// Given at most once, at the head of a step.
pub(crate) fn optional(
    owner: Option<&Spanned<Owner>>,
    accounts: &Accounts,
) -> Result<Option<(u32, u32)>, StepError> {
    owner.map(|owner| numbers(owner, accounts)).transpose()
}

fn user(name: &str, accounts: &Accounts, span: Span) -> Result<(u32, u32), StepError> {
    match accounts.user(name) {
        Some(user) => Ok((user.uid, user.gid)),
        // Every system gives this name to number 0, even one without account files.
        None if name == "root" => Ok((0, 0)),
        None => Err(StepError::new(span, format!("the image has no user {name:?}"))
            .did_you_mean(name, accounts.user_names())
            .help(format!("create it in this stage: `users: [{{name: {name}, uid: 1001}}]`, or write a number"))),
    }
}

pub(crate) fn group_number(
    group: &Identity,
    accounts: &Accounts,
    span: Span,
) -> Result<u32, StepError> {
    match group {
        Identity::Id(id) => Ok(*id),
        Identity::Name(name) => match accounts.group(name.as_str()) {
            Some(gid) => Ok(gid),
            None if name.as_str() == "root" => Ok(0),
            None => Err(StepError::new(
                span,
                format!("the image has no group {:?}", name.as_str()),
            )
            .did_you_mean(name.as_str(), accounts.group_names())
            .help(format!(
                "create it in this stage: `groups: [{{name: {}, gid: 1001}}]`, or write a number",
                name.as_str()
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let accounts = Accounts::parse(b"app:x:1001:1002::/:/bin/sh\n", b"staff:x:50:\n");
        let span = Span { start: 0, end: 1 };
        let of = |text: &str| {
            numbers(
                &Spanned {
                    value: text.parse().unwrap(),
                    span,
                },
                &accounts,
            )
        };
        for (text, expected) in [
            ("app", (1001, 1002)),
            ("app:staff", (1001, 50)),
            ("1001", (1001, 1001)),
            ("7", (7, 7)),
            ("7:8", (7, 8)),
            ("root", (0, 0)),
            ("0:root", (0, 0)),
        ] {
            assert_eq!(of(text), Ok(expected), "{text}");
        }
        let error = of("ap").unwrap_err();
        assert_eq!(error.message, "the image has no user \"ap\"");
        assert_eq!(error.help[0], "did you mean \"app\"?");
        assert!(of("app:stuff").unwrap_err().help[0].contains("staff"));
    }
}
