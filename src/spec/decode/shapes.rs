//! The keys of every map of the language, and what people write instead by habit.

/// What may stand in one kind of map.
#[derive(Debug)]
pub(crate) struct Shape {
    /// The map, for "… has no key `x`": `a copy step`.
    pub(crate) what: &'static str,
    pub(crate) keys: &'static [&'static str],
    /// Words of Dockerfiles, Compose files and of other levels, each with what to do instead.
    pub(crate) habits: &'static [(&'static str, &'static str)],
}

/// Keys that every kind of step has.
pub(crate) const STEP: &[&str] = &["layer"];

/// The keys that say what a step does.
pub(crate) const ACTIONS: &[&str] = &["copy", "add", "write", "mkdir", "link", "remove", "run"];

/// The keys that say what a mount is.
pub(crate) const MOUNTS: &[&str] = &["cache", "secret", "bind", "tmpfs", "ssh"];

/// Habits that hold wherever files are made.
pub(crate) const FILE_HABITS: &[(&str, &str)] = &[
    ("chown", "`chown` is called `owner` here"),
    ("user", "the owner of files is called `owner`"),
    ("chmod", "`chmod` is called `mode` here"),
    ("permissions", "permissions are called `mode` here"),
    ("dest", "the destination is called `to`"),
    ("dst", "the destination is called `to`"),
    ("destination", "the destination is called `to`"),
    ("target", "the destination is called `to`"),
    ("into", "the destination is called `to`"),
    ("path", "the destination is called `to`"),
    (
        "src",
        "the source stands behind the step's own key: `copy: SOURCE`",
    ),
    (
        "source",
        "the source stands behind the step's own key: `copy: SOURCE`",
    ),
    (
        "sources",
        "the sources stand behind the step's own key: `copy: [A, B]`",
    ),
    (
        "from_stage",
        "`from_stage` is called `from` here; it takes a stage, a context or an image",
    ),
    ("stage", "a stage to copy from is called `from`"),
    ("image", "an image to copy from is called `from`"),
    ("ignore", "what is left out is called `exclude`"),
    ("keep_parents", "`keep_parents` is called `parents` here"),
    ("content", "the content of a file is called `text`"),
    ("contents", "the content of a file is called `text`"),
    (
        "file",
        "a file of the context to fill in is called `template`",
    ),
    ("sha256", "write `checksum: sha256:…`"),
    (
        "digest",
        "the digest of what is fetched is called `checksum`",
    ),
    ("extract", "`extract` is called `unpack` here"),
    (
        "force",
        "write `optional: true` for paths that may be missing",
    ),
    (
        "recursive",
        "directories are always removed with what they hold",
    ),
    (
        "symbolic",
        "links are symbolic unless `hard: true` is given",
    ),
];

pub(crate) const SPEC: Shape = Shape {
    what: "a spec",
    keys: &[
        "format",
        "image",
        "tags",
        "platforms",
        "target",
        "args",
        "profiles",
        "context",
        "contexts",
        "compression",
        "budget",
        "stages",
    ],
    habits: &[
        (
            "version",
            "the version of the language is called `format`: `format: 1`",
        ),
        ("name", "the name of the image is called `image`"),
        ("repository", "the name of the image is called `image`"),
        ("tag", "write a list: `tags: [latest]`"),
        ("platform", "write a list: `platforms: [linux/amd64]`"),
        (
            "services",
            "a spec has `stages`; services are up to whoever runs the image",
        ),
        ("build", "a spec has `stages`, each with `from` and `steps`"),
        ("variables", "variables of the build are called `args`"),
        ("vars", "variables of the build are called `args`"),
        (
            "profile",
            "write `profiles: {prod: {args: {…}}}`; one is chosen with `--profile prod`",
        ),
        (
            "environments",
            "what differs by environment is called `profiles`",
        ),
        ("dockerfile", "the stages are written here, under `stages`"),
        (
            "from",
            "`from` belongs to a stage: `stages: {app: {from: …}}`",
        ),
        (
            "steps",
            "`steps` belong to a stage: `stages: {app: {from: …, steps: […]}}`",
        ),
        ("config", "`config` belongs to a stage"),
        ("env", "`env` belongs under the `config` of a stage"),
        ("labels", "`labels` belong under the `config` of a stage"),
        ("users", "`users` belong to a stage"),
    ],
};

pub(crate) const PROFILE: Shape = Shape {
    what: "a profile",
    keys: &[
        "args",
        "target",
        "user",
        "env",
        "entrypoint",
        "cmd",
        "labels",
    ],
    habits: &[
        ("environment", "environment variables are called `env` here"),
        ("command", "the default arguments are called `cmd` here"),
        ("label", "write a map: `labels: {KEY: VALUE}`"),
        ("vars", "variables of the build are called `args`"),
        ("variables", "variables of the build are called `args`"),
        (
            "stage",
            "the stage that becomes the image is called `target`",
        ),
        (
            "config",
            "leave `config` out: `env`, `labels`, `user`, `cmd` and `entrypoint` stand in the profile itself",
        ),
        (
            "extends",
            "profiles do not build on each other; what they share belongs to the spec",
        ),
        (
            "image",
            "let the spec's own use an argument that the profile sets: `image: acme/${NAME}`",
        ),
        (
            "tags",
            "let the spec's own use an argument that the profile sets: `tags: [\"${TAG}\"]`",
        ),
        (
            "from",
            "let the stage's own use an argument that the profile sets: `from: node:${NODE}`",
        ),
        (
            "steps",
            "a profile has no steps; let `target` name a stage that has them",
        ),
        (
            "files",
            "let a step use an argument that the profile sets: `copy: config/${NAME}.json`",
        ),
        (
            "stages",
            "`stages` belong to the spec; let `target` name the one that is meant",
        ),
        (
            "platforms",
            "platforms belong to the spec, or are chosen with `--platform`",
        ),
    ],
};

pub(crate) const STAGE: Shape = Shape {
    what: "a stage",
    keys: &[
        "from", "extends", "workdir", "users", "groups", "steps", "config", "allow",
    ],
    habits: &[
        ("image", "what a stage starts from is called `from`"),
        ("base", "what a stage starts from is called `from`"),
        ("run", "commands are steps: `steps: [{run: …}]`"),
        ("commands", "commands are steps: `steps: [{run: …}]`"),
        ("script", "commands are steps: `steps: [{run: …}]`"),
        ("copy", "copies are steps: `steps: [{copy: …}]`"),
        ("instructions", "what a stage does is called `steps`"),
        (
            "user",
            "`user` belongs under `config`; users to be created are called `users`",
        ),
        ("env", "`env` belongs under `config`"),
        (
            "environment",
            "environment variables are called `env` and belong under `config`",
        ),
        ("entrypoint", "`entrypoint` belongs under `config`"),
        ("cmd", "`cmd` belongs under `config`"),
        (
            "command",
            "the default arguments are called `cmd` and belong under `config`",
        ),
        ("expose", "`expose` belongs under `config`"),
        (
            "ports",
            "ports are called `expose` and belong under `config`",
        ),
        ("labels", "`labels` belong under `config`"),
        ("volumes", "`volumes` belong under `config`"),
        ("healthcheck", "`healthcheck` belongs under `config`"),
        ("stop_signal", "`stop_signal` belongs under `config`"),
        ("working_dir", "the working directory is called `workdir`"),
        ("args", "`args` belong to the spec, beside `stages`"),
        (
            "platform",
            "platforms belong to the spec: `platforms: [linux/amd64]`",
        ),
        (
            "depends_on",
            "order follows from `from`; a stage that nothing uses is not built",
        ),
    ],
};

pub(crate) const USER: Shape = Shape {
    what: "a user",
    keys: &["name", "uid", "gid", "home", "shell", "groups"],
    habits: &[
        ("user", "the login name is called `name`"),
        ("id", "the number of a user is called `uid`"),
        (
            "group",
            "write the number of the primary group as `gid`; further groups under `groups`",
        ),
        ("homedir", "the home directory is called `home`"),
        (
            "password",
            "users of images have no password; the account is locked",
        ),
    ],
};

pub(crate) const GROUP: Shape = Shape {
    what: "a group",
    keys: &["name", "gid"],
    habits: &[
        ("id", "the number of a group is called `gid`"),
        ("users", "write the group under `groups` of each user"),
        ("members", "write the group under `groups` of each user"),
    ],
};

pub(crate) const COPY: Shape = Shape {
    what: "a copy step",
    keys: &[
        "copy", "from", "to", "owner", "mode", "exclude", "parents", "follow",
    ],
    habits: FILE_HABITS,
};

pub(crate) const ADD: Shape = Shape {
    what: "an add step",
    keys: &["add", "checksum", "to", "unpack", "owner", "mode"],
    habits: FILE_HABITS,
};

/// The lock file. Programs write it, so nobody has habits there.
pub(crate) const LOCK: Shape = Shape {
    what: "a lock",
    keys: &["format", "images", "files"],
    habits: &[],
};

pub(crate) const LOCKED_IMAGE: Shape = Shape {
    what: "a locked image",
    keys: &["digest", "platforms"],
    habits: &[],
};

pub(crate) const LOCKED_FILE: Shape = Shape {
    what: "a locked file",
    keys: &["digest", "size"],
    habits: &[],
};

pub(crate) const WRITE: Shape = Shape {
    what: "a write step",
    keys: &["write", "text", "template", "from", "owner", "mode"],
    habits: &[
        (
            "to",
            "the file to write stands behind the step's own key: `write: PATH`",
        ),
        ("chown", "`chown` is called `owner` here"),
        ("user", "the owner of files is called `owner`"),
        ("chmod", "`chmod` is called `mode` here"),
        ("permissions", "permissions are called `mode` here"),
        ("content", "the content of a file is called `text`"),
        ("contents", "the content of a file is called `text`"),
        ("data", "the content of a file is called `text`"),
        (
            "file",
            "a file of the context to fill in is called `template`",
        ),
        (
            "src",
            "a file of the context to fill in is called `template`",
        ),
        (
            "source",
            "a file of the context to fill in is called `template`",
        ),
    ],
};

pub(crate) const MKDIR: Shape = Shape {
    what: "a mkdir step",
    keys: &["mkdir", "owner", "mode"],
    habits: &[
        (
            "to",
            "the directory stands behind the step's own key: `mkdir: PATH`",
        ),
        ("chown", "`chown` is called `owner` here"),
        ("user", "the owner of files is called `owner`"),
        ("chmod", "`chmod` is called `mode` here"),
        ("parents", "parents are always made"),
    ],
};

pub(crate) const LINK: Shape = Shape {
    what: "a link step",
    keys: &["link", "target", "hard"],
    habits: &[
        (
            "to",
            "what a link points at is called `target`; the link itself stands behind `link`",
        ),
        (
            "from",
            "what a link points at is called `target`; the link itself stands behind `link`",
        ),
        ("source", "what a link points at is called `target`"),
        (
            "symbolic",
            "links are symbolic unless `hard: true` is given",
        ),
    ],
};

pub(crate) const REMOVE: Shape = Shape {
    what: "a remove step",
    keys: &["remove", "optional"],
    habits: FILE_HABITS,
};

pub(crate) const RUN: Shape = Shape {
    what: "a run step",
    keys: &["run", "env", "mounts", "network", "user", "workdir"],
    habits: &[
        ("environment", "environment variables are called `env` here"),
        (
            "mount",
            "write a list: `mounts: [{cache: npm, target: /root/.npm}]`",
        ),
        ("volumes", "what is mounted is called `mounts`"),
        ("cwd", "the working directory is called `workdir`"),
        ("working_dir", "the working directory is called `workdir`"),
        ("dir", "the working directory is called `workdir`"),
        (
            "shell",
            "a text is run by /bin/sh; for another shell write a list: `run: [/bin/bash, -c, …]`",
        ),
        ("secrets", "secrets are mounts: `mounts: [{secret: ID}]`"),
        (
            "cache",
            "caches are mounts: `mounts: [{cache: NAME, target: PATH}]`",
        ),
        ("owner", "who runs a command is called `user`"),
    ],
};

pub(crate) const CACHE: Shape = Shape {
    what: "a cache mount",
    keys: &["cache", "target", "sharing"],
    habits: MOUNT_HABITS,
};

pub(crate) const SECRET: Shape = Shape {
    what: "a secret mount",
    keys: &["secret", "target", "env", "required"],
    habits: MOUNT_HABITS,
};

pub(crate) const BIND: Shape = Shape {
    what: "a bind mount",
    keys: &["bind", "from", "target", "writable"],
    habits: MOUNT_HABITS,
};

pub(crate) const TMPFS: Shape = Shape {
    what: "a tmpfs mount",
    keys: &["tmpfs", "size"],
    habits: MOUNT_HABITS,
};

pub(crate) const SSH: Shape = Shape {
    what: "an ssh mount",
    keys: &["ssh"],
    habits: MOUNT_HABITS,
};

/// Habits of `RUN --mount` and of Compose.
pub(crate) const MOUNT_HABITS: &[(&str, &str)] = &[
    (
        "type",
        "the kind of a mount is its first key: `{cache: NAME, target: PATH}`",
    ),
    (
        "id",
        "the name stands behind the kind: `{secret: ID}`, `{cache: NAME, …}`",
    ),
    ("dst", "where a mount appears is called `target`"),
    ("destination", "where a mount appears is called `target`"),
    ("to", "where a mount appears is called `target`"),
    (
        "src",
        "what is mounted stands behind the kind: `{bind: SOURCE, target: PATH}`",
    ),
    (
        "source",
        "what is mounted stands behind the kind: `{bind: SOURCE, target: PATH}`",
    ),
    ("rw", "`rw` is called `writable: true` here"),
    ("readwrite", "`readwrite` is called `writable: true` here"),
    (
        "readonly",
        "binds are read-only unless `writable: true` is given",
    ),
    ("ro", "binds are read-only unless `writable: true` is given"),
    ("mode", "a mount has no mode"),
];

pub(crate) const CONFIG: Shape = Shape {
    what: "`config`",
    keys: &[
        "user",
        "user_as",
        "workdir",
        "env",
        "entrypoint",
        "cmd",
        "expose",
        "stop_signal",
        "labels",
        "volumes",
        "healthcheck",
    ],
    habits: &[
        ("environment", "environment variables are called `env` here"),
        ("command", "the default arguments are called `cmd` here"),
        ("args", "the default arguments are called `cmd` here"),
        (
            "ports",
            "ports that the program listens on are called `expose`; publishing is up to `run -p`",
        ),
        (
            "port",
            "ports that the program listens on are called `expose`",
        ),
        ("working_dir", "the working directory is called `workdir`"),
        ("cwd", "the working directory is called `workdir`"),
        ("volume", "write a list: `volumes: [/data]`"),
        ("label", "write a map: `labels: {KEY: VALUE}`"),
        ("stopsignal", "write `stop_signal`"),
        ("health", "a health check is called `healthcheck`"),
        ("annotations", "an image config has `labels`"),
        (
            "shell",
            "an OCI image has no shell; name it in `entrypoint`",
        ),
    ],
};

pub(crate) const HEALTHCHECK: Shape = Shape {
    what: "a health check",
    keys: &[
        "test",
        "interval",
        "timeout",
        "start_period",
        "start_interval",
        "retries",
    ],
    habits: &[
        (
            "disable",
            "write `test: none` to take the base's check away",
        ),
        ("command", "what is run is called `test`"),
        ("cmd", "what is run is called `test`"),
        ("start-period", "write `start_period`"),
        ("start-interval", "write `start_interval`"),
    ],
};

#[cfg(test)]
pub(crate) const ALL: &[&Shape] = &[
    &SPEC,
    &super::budget::BUDGET,
    &PROFILE,
    &STAGE,
    &USER,
    &GROUP,
    &COPY,
    &ADD,
    &WRITE,
    &MKDIR,
    &LINK,
    &REMOVE,
    &RUN,
    &CACHE,
    &SECRET,
    &BIND,
    &TMPFS,
    &SSH,
    &CONFIG,
    &HEALTHCHECK,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_habit_hides_a_key_of_its_own_map() {
        for shape in ALL.iter().filter(|shape| shape.what != "an add step") {
            for (habit, advice) in shape.habits {
                assert!(!advice.ends_with('.'), "{advice}");
                let own = shape.keys.contains(habit);
                assert!(!own, "{} has the key {habit}", shape.what);
            }
        }
    }
}
