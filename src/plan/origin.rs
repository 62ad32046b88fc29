//! Where the steps of a spec take files from, as written: names are not bound here.

use crate::spec::{Action, ContextPath, Origin, Spanned, WriteSource};

/// Where a step takes files from.
pub(crate) enum Written<'a> {
    /// The main context, because nothing else is written.
    Main,
    /// What is written.
    From(&'a Spanned<Origin>),
    /// It takes none.
    Nothing,
}

/// The source of an action's files, and the paths in it.
pub(crate) fn written(action: &Action) -> (Written<'_>, Vec<&ContextPath>) {
    match action {
        Action::Copy(copy) => {
            let paths = copy.sources.iter().map(|source| &source.value).collect();
            (from_or_main(copy.from.as_ref()), paths)
        }
        Action::Write(write) => match &write.content {
            WriteSource::Text(_) => (Written::Nothing, Vec::new()),
            WriteSource::Template { path, from } => {
                (from_or_main(from.as_ref()), vec![&path.value])
            }
        },
        _ => (Written::Nothing, Vec::new()),
    }
}

pub(crate) fn from_or_main(from: Option<&Spanned<Origin>>) -> Written<'_> {
    from.map_or(Written::Main, Written::From)
}
