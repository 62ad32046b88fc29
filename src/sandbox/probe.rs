//! The probe: which tiers work here, found by trying each.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sandbox::error::{SandboxError, Setup};
use crate::sandbox::order::{End, Failed, Task};
use crate::sandbox::run;
use crate::sandbox::stop::StopSwitch;
use crate::sandbox::tier::{Letter, Tier};

/// What the sandbox must be told about the machine.
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    /// Boxwright itself, to be started again.
    pub program: PathBuf,
    /// Where runs have their scratch directories, on the file system that shall hold what
    /// commands write.
    pub scratch: PathBuf,
    /// The only letter that is wanted, if one is.
    pub letter: Option<Letter>,
    /// What ends commands early.
    pub stop: StopSwitch,
    /// Under which circumstances commands run.
    pub circumstances: Circumstances,
}

/// What a command may notice of its machine although nobody says it, and that must not show in its
/// files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Circumstances {
    /// As the machine has them.
    #[default]
    Usual,
    /// One processor; directories that were filled the other way round, which shows in their order
    /// on file systems that keep it (tmpfs, btrfs, xfs) and not on those that sort by a hash (ext4).
    Perturbed,
}

/// A tier that works, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footing {
    /// The tier.
    pub tier: Tier,
    /// Whose processes the command sees.
    pub proc: Proc,
    /// Where its changes are written.
    pub upper: Upper,
}

/// The `/proc` of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proc {
    /// Its own, with a process namespace.
    Own,
    /// The builder's: in a container that hides parts of `/proc` no other can be mounted. In tier
    /// C there is none.
    Shared,
}

/// Where the changes of a command are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upper {
    /// In the scratch directory.
    Disk,
    /// In memory: a scratch directory that lies on an overlay cannot be part of another.
    Memory,
}

/// What trying said, tier by tier.
#[derive(Debug, Clone)]
pub struct Probe {
    verdicts: Vec<Verdict>,
}

/// What trying one tier said.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The tier.
    pub tier: Tier,
    /// How it works, or what failed.
    pub outcome: Result<Footing, Setup>,
}

/// Tries every tier that the settings allow. It takes some ten milliseconds each.
pub fn probe(settings: &SandboxSettings) -> Probe {
    let wanted = wanted(settings);
    let verdicts = wanted.map(|tier| verdict(tier, settings)).collect();
    Probe { verdicts }
}

/// Tries tiers until one works: the best one.
///
/// # Errors
/// [`SandboxError::NoTier`] or [`SandboxError::TierRefused`], with what each tier lacks.
pub fn best(settings: &SandboxSettings) -> Result<Footing, SandboxError> {
    let mut verdicts = Vec::new();
    for tier in wanted(settings) {
        let verdict = verdict(tier, settings);
        if let Ok(footing) = verdict.outcome {
            return Ok(footing);
        }
        verdicts.push(verdict);
    }
    Err(Probe { verdicts }.refusal(settings.letter))
}

fn wanted(settings: &SandboxSettings) -> impl Iterator<Item = Tier> {
    let letter = settings.letter;
    Tier::ALL
        .into_iter()
        .filter(move |tier| letter.is_none_or(|letter| tier.letter() == letter))
}

fn verdict(tier: Tier, settings: &SandboxSettings) -> Verdict {
    Verdict {
        tier,
        outcome: footing(tier, settings),
    }
}

/// The best way in which a tier works.
fn footing(tier: Tier, settings: &SandboxSettings) -> Result<Footing, Setup> {
    let root = rustix::process::geteuid().is_root();
    let needs_root = matches!(tier, Tier::Root | Tier::Chroot);
    if needs_root && !root {
        return Err(Setup::because(
            "be root",
            "the builder runs as another user",
        ));
    }
    if tier == Tier::Chroot {
        let footing = Footing {
            tier,
            proc: Proc::Shared,
            upper: Upper::Disk,
        };
        return attempt(&footing, settings).map(|()| footing);
    }
    let mut first = None;
    for (proc, upper) in [
        (Proc::Own, Upper::Disk),
        (Proc::Shared, Upper::Disk),
        (Proc::Own, Upper::Memory),
        (Proc::Shared, Upper::Memory),
    ] {
        let footing = Footing { tier, proc, upper };
        match attempt(&footing, settings) {
            Ok(()) => return Ok(footing),
            Err(setup) => {
                let decisive = !matters(&setup);
                first.get_or_insert(setup);
                if decisive {
                    break;
                }
            }
        }
    }
    Err(first.unwrap_or_else(|| Setup::because("try the tier", "nothing was tried")))
}

/// Whether another `/proc` or another place for changes may help.
fn matters(setup: &Setup) -> bool {
    ["mount /proc", "mount the overlay"].contains(&setup.action.as_str())
}

fn attempt(footing: &Footing, settings: &SandboxSettings) -> Result<(), Setup> {
    let ignore = |_, _: &[u8]| {};
    match run::order(footing, Task::Try, settings, u64::MAX, &ignore) {
        Ok(ended) => match ended.outcome {
            Ok(End::Code(0)) => Ok(()),
            Ok(end) => Err(Setup::because(
                "make the sandbox",
                format!("it ended: {end:?}"),
            )),
            Err(Failed::Setup(setup) | Failed::Start(setup)) => Err(setup),
        },
        Err(error) => {
            use std::error::Error;
            let cause = error.source().map_or_else(String::new, ToString::to_string);
            Err(Setup::because(error.to_string(), cause))
        }
    }
}

impl Probe {
    /// What trying said, the best tier first.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// The error that says what each tier lacks.
    fn refusal(&self, letter: Option<Letter>) -> SandboxError {
        let lacks = self.verdicts.iter().filter_map(|verdict| {
            let lack = verdict.lack()?;
            Some((verdict.tier, lack))
        });
        let lacks: Vec<_> = lacks.collect();
        let mut reason = String::new();
        for (tier, lack) in &lacks {
            let _ = writeln!(reason, "{tier}: lacks {}; {}", lack.right, lack.found);
        }
        // B asks for the least, and does all that A does.
        let easiest = lacks.iter().find(|(tier, _)| *tier == Tier::SingleMap);
        if let Some((tier, lack)) = easiest.or(lacks.last()) {
            let _ = writeln!(reason, "tier {} comes with one of:", tier.letter());
            for remedy in lack.remedies {
                let _ = writeln!(reason, "  {}: {}", remedy.place, remedy.setting);
            }
        }
        reason.push_str("`boxwright doctor` says it for every tier");
        match letter {
            Some(letter) => SandboxError::TierRefused { letter, reason },
            None => SandboxError::NoTier(reason),
        }
    }
}
