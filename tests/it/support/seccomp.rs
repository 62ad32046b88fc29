//! The seccomp profile that containerd gives pods with `RuntimeDefault`, made of podman's, which is
//! the same but for namespaces and mounts: those need CAP_SYS_ADMIN there.

use std::fs;

use serde_json::{Value, json};

use super::peers::Skip;

/// Calls that make namespaces or mounts.
const GUARDED: [&str; 14] = [
    "clone3",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "umount",
    "umount2",
    "unshare",
];

/// All flags of clone(2) that make namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The profile as JSON.
pub(crate) fn of_containerd() -> Result<Vec<u8>, Skip> {
    let text = fs::read("/usr/share/containers/seccomp.json")
        .map_err(|_| Skip::missing("podman's seccomp profile"))?;
    let mut profile: Value = serde_json::from_slice(&text).expect("a profile is JSON");
    let rules = profile["syscalls"].as_array_mut().expect("rules");
    for rule in rules.iter_mut() {
        let names = rule["names"].as_array_mut().expect("names of calls");
        names.retain(|name| name != "clone" && !GUARDED.iter().any(|guarded| name == guarded));
    }
    rules.retain(|rule| rule["names"] != json!([]));
    let admin = json!({"caps": ["CAP_SYS_ADMIN"]});
    let refused = |names: &[&str], number: u32| {
        json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": number, "args": [],
            "includes": {}, "excludes": admin})
    };
    let all: Vec<&str> = GUARDED.into_iter().chain(["clone"]).collect();
    let plain =
        json!({"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"});
    rules.extend([
        json!({"names": all, "action": "SCMP_ACT_ALLOW", "args": [], "includes": admin, "excludes": {}}),
        json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [plain], "includes": {},
            "excludes": admin}),
        // The C library takes clone() where clone3() seems not to exist.
        refused(&["clone3"], 38),
        refused(&GUARDED[1..], 1),
    ]);
    Ok(serde_json::to_vec(&profile).expect("JSON"))
}
