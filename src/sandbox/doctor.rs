//! What a tier lacks on this machine, and the setting that grants it where builds run.
//!
//! Comes in: what trying a tier failed with. Goes out: the right that is missing, in words, and
//! for each place that a person may have a say in, the exact text to write there.

use crate::sandbox::error::Setup;
use crate::sandbox::probe::Verdict;
use crate::sandbox::tier::Tier;

/// A setting that grants what is missing, in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remedy {
    /// Where: `docker`, `Kubernetes`, …
    pub place: &'static str,
    /// What to write there.
    pub setting: &'static str,
}

/// What a tier lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The right, in words.
    pub right: &'static str,
    /// What was tried, and what the system said.
    pub found: String,
    /// How to get it; empty where nothing short of another machine helps.
    pub remedies: &'static [Remedy],
}

const fn remedy(place: &'static str, setting: &'static str) -> Remedy {
    Remedy { place, setting }
}

const USER_NAMESPACES: &[Remedy] = &[
    remedy(
        "docker",
        "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined …",
    ),
    remedy(
        "podman",
        "nothing to set: its default allows it; take out --cap-drop and --security-opt of your own",
    ),
    remedy(
        "Kubernetes",
        "securityContext: {seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}}",
    ),
    remedy(
        "GitLab",
        "config.toml, [runners.docker]: security_opt = [\"seccomp:unconfined\", \"apparmor:unconfined\"]",
    ),
    remedy(
        "GitHub",
        "container: {options: --security-opt seccomp=unconfined --security-opt apparmor=unconfined}",
    ),
    remedy(
        "this machine",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), kernel.unprivileged_userns_clone=1 (older Debian), user.max_user_namespaces=15000",
    ),
];

const RIGHT_TO_MOUNT: &[Remedy] = &[
    remedy(
        "docker",
        "docker run --cap-add SYS_ADMIN --security-opt apparmor=unconfined …",
    ),
    remedy(
        "podman",
        "podman run --cap-add SYS_ADMIN --security-opt label=disable …",
    ),
    remedy(
        "Kubernetes",
        "securityContext: {capabilities: {add: [SYS_ADMIN]}, appArmorProfile: {type: Unconfined}}",
    ),
    remedy(
        "GitLab",
        "config.toml, [runners.docker]: cap_add = [\"SYS_ADMIN\"], security_opt = [\"apparmor:unconfined\"]",
    ),
    remedy(
        "GitHub",
        "container: {options: --cap-add SYS_ADMIN --security-opt apparmor=unconfined}",
    ),
];

const ROOT: &[Remedy] = &[
    remedy("docker", "docker run --user 0 …"),
    remedy("podman", "podman run --user 0 …"),
    remedy(
        "Kubernetes",
        "securityContext: {runAsUser: 0, runAsNonRoot: false}",
    ),
    remedy("GitLab", "image: {name: …, docker: {user: root}}"),
    remedy("GitHub", "container: {options: --user 0}"),
];

const ROOTS_RIGHTS: &[Remedy] = &[
    remedy(
        "docker",
        "docker run --cap-add SYS_CHROOT --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER --cap-add SETUID --cap-add SETGID …",
    ),
    remedy(
        "podman",
        "podman run --cap-add SYS_CHROOT,CHOWN,DAC_OVERRIDE,FOWNER,SETUID,SETGID …",
    ),
    remedy(
        "Kubernetes",
        "securityContext: {capabilities: {add: [SYS_CHROOT, CHOWN, DAC_OVERRIDE, FOWNER, SETUID, SETGID]}}",
    ),
    remedy("GitLab", "config.toml, [runners.docker]: take out cap_drop"),
    remedy("GitHub", "container: {options: …}: take out --cap-drop"),
];

const ID_PROGRAMS: &[Remedy] = &[
    remedy("Debian, Ubuntu", "apt-get install uidmap"),
    remedy("Fedora", "dnf install shadow-utils"),
    remedy("Alpine", "apk add shadow-uidmap"),
];

const ID_RANGES: &[Remedy] = &[remedy(
    "this machine",
    "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
)];

const STORE_ELSEWHERE: &[Remedy] = &[remedy(
    "boxwright",
    "--store DIR on a volume, a bind mount or /dev/shm: not on the container's own file system",
)];

impl Verdict {
    /// What the tier lacks, unless it works.
    pub fn lack(&self) -> Option<Lack> {
        let setup = self.outcome.as_ref().err()?;
        let (right, remedies) = cause(self.tier, setup);
        Some(Lack {
            right,
            found: setup.to_string(),
            remedies,
        })
    }
}

/// The right and the remedies for what failed.
fn cause(tier: Tier, setup: &Setup) -> (&'static str, &'static [Remedy]) {
    let tried = setup.action.as_str();
    if tried == "be root" {
        let remedies = match tier {
            // Nobody should become root for namespaces: B gives the same.
            Tier::Root => &[],
            _ => ROOT,
        };
        return ("to be root", remedies);
    }
    if tried == "mount the overlay" {
        return (
            "a file system that an overlay can be mounted over",
            STORE_ELSEWHERE,
        );
    }
    match tier {
        Tier::Root => ("the right to mount (CAP_SYS_ADMIN)", RIGHT_TO_MOUNT),
        Tier::Chroot => ("the rights of root in a default container", ROOTS_RIGHTS),
        Tier::RangeMap if tried.starts_with("run new") => (
            "the programs newuidmap and newgidmap, setuid root",
            ID_PROGRAMS,
        ),
        Tier::RangeMap if tried.starts_with("read /etc/sub") => (
            "a range of 65535 ids in /etc/subuid and /etc/subgid",
            ID_RANGES,
        ),
        Tier::RangeMap | Tier::SingleMap => ("the right to make user namespaces", USER_NAMESPACES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lack_has_a_name_and_its_remedies() {
        for (tier, tried, right, place) in [
            (Tier::Root, "be root", "to be root", None),
            (
                Tier::Root,
                "make namespaces",
                "the right to mount (CAP_SYS_ADMIN)",
                Some("docker"),
            ),
            (
                Tier::RangeMap,
                "run newuidmap",
                "the programs newuidmap and newgidmap, setuid root",
                Some("Alpine"),
            ),
            (
                Tier::RangeMap,
                "read /etc/subgid",
                "a range of 65535 ids in /etc/subuid and /etc/subgid",
                Some("this machine"),
            ),
            (
                Tier::SingleMap,
                "make a user namespace",
                "the right to make user namespaces",
                Some("GitLab"),
            ),
            (
                Tier::SingleMap,
                "mount the overlay",
                "a file system that an overlay can be mounted over",
                Some("boxwright"),
            ),
            (Tier::Chroot, "be root", "to be root", Some("Kubernetes")),
            (
                Tier::Chroot,
                "change the root",
                "the rights of root in a default container",
                Some("GitHub"),
            ),
        ] {
            let outcome = Err(Setup::because(tried, "no"));
            let lack = Verdict { tier, outcome }.lack().unwrap();
            assert_eq!(lack.right, right);
            let places: Vec<_> = lack.remedies.iter().map(|remedy| remedy.place).collect();
            assert_eq!(place.is_none(), places.is_empty(), "{tier:?} {tried}");
            assert!(
                place.is_none_or(|place| places.contains(&place)),
                "{tier:?} {tried}"
            );
        }
    }
}
