//! Calls that change owners, read out of the registers of whoever makes them.

use libc::seccomp_notif;

use crate::sandbox::supervisor::filter::{Calls, machines};

/// A change of an owner, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chown {
    pub(crate) target: Target,
    /// `None` where it stays.
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// Whose owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// An open file of the caller's; `None` is its working directory.
    Open(Option<i32>),
    /// The file of a path, which lies at this address in the caller's memory.
    Path {
        /// The directory that it is relative to; `None` is the working directory.
        base: Option<i32>,
        address: u64,
        links: Links,
        /// Whether an empty path means `base` itself.
        empty: Empty,
    },
}

/// What becomes of a link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Followed,
    Kept,
}

/// What an empty path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Empty {
    Nothing,
    TheBase,
}

impl Chown {
    /// Reads a call. `None` is one that the filter does not refer to us.
    pub(crate) fn of(call: &seccomp_notif) -> Option<Chown> {
        let number = u32::try_from(call.data.nr).ok()?;
        let calls = machines()
            .iter()
            .find(|calls| calls.machine == call.data.arch)?;
        let arguments = call.data.args;
        if number == calls.fchownat {
            return Some(at(arguments));
        }
        let (target, width) = target(calls, number, arguments)?;
        Some(Chown {
            target,
            uid: id(arguments[1], width),
            gid: id(arguments[2], width),
        })
    }
}

/// The calls with a file and two ids.
fn target(calls: &Calls, number: u32, arguments: [u64; 6]) -> Option<(Target, Width)> {
    let path = |links| Target::Path {
        base: None,
        address: arguments[0],
        links,
        empty: Empty::Nothing,
    };
    let open = Target::Open(Some(low(arguments[0])));
    let known = [
        (calls.chown, path(Links::Followed), Width::Long),
        (calls.lchown, path(Links::Kept), Width::Long),
        (Some(calls.fchown), open, Width::Long),
        (
            calls.short.map(|short| short[0]),
            path(Links::Followed),
            Width::Short,
        ),
        (
            calls.short.map(|short| short[1]),
            path(Links::Kept),
            Width::Short,
        ),
        (calls.short.map(|short| short[2]), open, Width::Short),
    ];
    let mut known = known.into_iter();
    known.find_map(|(one, target, width)| (one == Some(number)).then_some((target, width)))
}

/// fchownat(2).
fn at(arguments: [u64; 6]) -> Chown {
    let flags = low(arguments[4]);
    let base = Some(low(arguments[0])).filter(|base| *base != libc::AT_FDCWD);
    let flag = |flag| flags & flag != 0;
    Chown {
        target: Target::Path {
            base,
            address: arguments[1],
            links: match flag(libc::AT_SYMLINK_NOFOLLOW) {
                true => Links::Kept,
                false => Links::Followed,
            },
            empty: match flag(libc::AT_EMPTY_PATH) {
                true => Empty::TheBase,
                false => Empty::Nothing,
            },
        },
        uid: id(arguments[2], Width::Long),
        gid: id(arguments[3], Width::Long),
    }
}

/// How many bits an id has.
#[derive(Clone, Copy)]
enum Width {
    Long,
    Short,
}

/// An id; the highest one means that it stays.
fn id(register: u64, width: Width) -> Option<u32> {
    let (value, none) = match width {
        Width::Long => (register & u64::from(u32::MAX), u32::MAX),
        Width::Short => (register & u64::from(u16::MAX), u32::from(u16::MAX)),
    };
    u32::try_from(value).ok().filter(|value| *value != none)
}

/// The lower half of a register: what a call with a number of 32 bits looks at.
fn low(register: u64) -> i32 {
    let bytes = register.to_le_bytes();
    i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
