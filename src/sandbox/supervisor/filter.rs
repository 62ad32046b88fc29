//! The filter of tier B: which calls are answered how.
//!
//! With one id in the namespace the kernel refuses every change of owner and of id. Changes of
//! owners go to the supervisor, which records them. Changes of the process's own ids are answered
//! with "done": the process stays root, and may do all that the other user might.
//!
//! A program may enter the kernel by the calls of a 32-bit machine. On x86-64 those have numbers
//! of their own, and are treated alike; calls of the x32 kind, and of any other machine, do not
//! exist for the command.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_USER_NOTIF, sock_filter,
};

/// `AUDIT_ARCH_*` of `linux/audit.h`.
pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const I386: u32 = 0x4000_0003;
pub(crate) const AARCH64: u32 = 0xc000_00b7;

/// Numbers from here on are calls of x32.
const X32: u32 = 0x4000_0000;
/// Where `struct seccomp_data` has the number and the machine.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;

/// One machine's numbers.
pub(crate) struct Calls {
    pub(crate) machine: u32,
    pub(crate) chown: Option<u32>,
    pub(crate) lchown: Option<u32>,
    pub(crate) fchown: u32,
    pub(crate) fchownat: u32,
    /// The same with ids of 16 bits.
    pub(crate) short: Option<[u32; 3]>,
    /// `setgroups` and all that set ids.
    pub(crate) ids: &'static [u32],
}

const ON_X86_64: Calls = Calls {
    machine: X86_64,
    chown: Some(92),
    lchown: Some(94),
    fchown: 93,
    fchownat: 260,
    short: None,
    ids: &[105, 106, 113, 114, 116, 117, 119, 122, 123],
};

const ON_I386: Calls = Calls {
    machine: I386,
    chown: Some(212),
    lchown: Some(198),
    fchown: 207,
    fchownat: 298,
    // chown, lchown, fchown
    short: Some([182, 16, 95]),
    ids: &[
        23, 46, 70, 71, 81, 138, 139, 164, 170, 203, 204, 206, 208, 210, 213, 214, 215, 216,
    ],
};

const ON_AARCH64: Calls = Calls {
    machine: AARCH64,
    chown: None,
    lchown: None,
    fchown: 55,
    fchownat: 54,
    short: None,
    ids: &[143, 144, 145, 146, 147, 149, 151, 152, 159],
};

/// The machines whose calls this machine takes, with those numbers.
pub(crate) fn machines() -> &'static [Calls] {
    const INTEL: &[Calls] = &[ON_X86_64, ON_I386];
    const ARM: &[Calls] = &[ON_AARCH64];
    match cfg!(target_arch = "aarch64") {
        true => ARM,
        false => INTEL,
    }
}

/// The filter as the kernel runs it, for each call of the command.
pub(crate) fn program() -> Vec<sock_filter> {
    let mut program = vec![load(MACHINE)];
    for calls in machines() {
        let part = part(calls);
        // The part ends with an answer, so what is skipped is skipped whole.
        let length = u8::try_from(part.len()).unwrap_or(u8::MAX);
        program.push(jump(BPF_JEQ, calls.machine, 0, length));
        program.extend(part);
    }
    program.push(answer(not_there()));
    program
}

/// One machine's calls, to an answer.
fn part(calls: &Calls) -> Vec<sock_filter> {
    let mut part = vec![load(NUMBER)];
    if calls.machine == X86_64 {
        part.push(jump(BPF_JGE, X32, 0, 1));
        part.push(answer(not_there()));
    }
    for number in calls.owners() {
        part.push(jump(BPF_JEQ, number, 0, 1));
        part.push(answer(SECCOMP_RET_USER_NOTIF));
    }
    for number in calls.ids {
        part.push(jump(BPF_JEQ, *number, 0, 1));
        // The error number 0: done.
        part.push(answer(SECCOMP_RET_ERRNO));
    }
    part.push(answer(SECCOMP_RET_ALLOW));
    part
}

impl Calls {
    /// All that change owners.
    fn owners(&self) -> impl Iterator<Item = u32> {
        let long = [
            self.chown,
            self.lchown,
            Some(self.fchown),
            Some(self.fchownat),
        ];
        let short = self.short.into_iter().flatten();
        long.into_iter().flatten().chain(short)
    }
}

fn not_there() -> u32 {
    SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

fn jump(how: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(BPF_JMP | how | BPF_K, value, if_true, if_false)
}

fn answer(value: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, value, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        // All codes of classic BPF have 16 bits.
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does with the filter.
    fn judged(machine: u32, number: u32) -> u32 {
        let program = program();
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let holds = match u32::from(code) & 0xf7 {
                class if class == (BPF_LD | BPF_W | BPF_ABS) => {
                    value = [number, machine][usize::from(k == MACHINE)];
                    at += 1;
                    continue;
                }
                class if class == (BPF_JMP | BPF_JEQ) => value == k,
                class if class == (BPF_JMP | BPF_JGE) => value >= k,
                _ => return k,
            };
            at += 1 + usize::from([jf, jt][usize::from(holds)]);
        }
    }

    #[test]
    fn every_way_to_change_an_owner_is_seen() {
        for calls in machines() {
            for number in calls.owners() {
                assert_eq!(judged(calls.machine, number), SECCOMP_RET_USER_NOTIF);
            }
            for number in calls.ids {
                assert_eq!(judged(calls.machine, *number), SECCOMP_RET_ERRNO);
            }
            assert_eq!(judged(calls.machine, 0), SECCOMP_RET_ALLOW);
        }
        // x32 and machines that this is not do not exist.
        assert_eq!(judged(0x1234, 92), not_there());
        if cfg!(target_arch = "x86_64") {
            assert_eq!(judged(X86_64, X32 + 92), not_there());
            // What is a change of owner on one machine is another call on the other.
            assert_eq!(judged(I386, 92), SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn the_filter_fits_its_jumps() {
        for calls in machines() {
            assert!(part(calls).len() < usize::from(u8::MAX));
        }
    }
}
