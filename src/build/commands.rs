//! Commands of stages: their keys, what they find, and what becomes of their results.
//!
//! A command's result is a changeset under a key that covers everything the command can see. The
//! tree that it runs in is one of these things, by its own digest and not by the steps that made
//! it: a step that comes to the same tree as before makes nothing behind it run again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use crate::build::bases;
use crate::build::error::BuildError;
use crate::build::event::Event;
use crate::build::report::Origin;
use crate::build::request::CacheUse;
use crate::build::stages::{Setting, Workshop};
use crate::context::read_digests;
use crate::image::environment;
use crate::layer::unread;
use crate::oci::Digest;
use crate::plan::PlannedStep;
use crate::plan::key;
use crate::sandbox::{
    self, Footing, Job, Mount, MountKind, RunUser, SandboxSettings, Secret, Writes,
};
use crate::spec::{
    self, AbsolutePath, Command, Diagnostic, Diagnostics, Network, SecretTarget, Sharing, Span,
};
use crate::steps::owner_numbers;
use crate::store::{ContentError, KeyRecord};
use crate::tree::{Changeset, Content, Follow, LayerPath, Tree};

/// The version of everything that a command sees and that no key names: default variables, the
/// devices, the files that are mounted over the tree's.
pub(crate) const RUNNER: u32 = 1;

/// What a command starts from.
pub(crate) struct Place<'a> {
    pub(crate) setting: &'a Setting<'a>,
    pub(crate) step: &'a PlannedStep,
    pub(crate) tree: &'a Tree,
    /// The tree that each bind mount takes files from, in their order.
    pub(crate) binds: Vec<Tree>,
}

/// A command with everything decided.
struct Prepared {
    job: Job,
    key: KeyRecord,
    /// Held while the command runs: caches that it has to itself.
    locks: Vec<PathBuf>,
    /// Trees that are mounted, by the place of their mount.
    binds: Vec<(usize, Tree, Digest)>,
}

impl Workshop<'_> {
    /// What the command of a step changes: remembered, or found out by running it.
    pub(crate) fn command(
        &self,
        run: &spec::Run,
        place: &Place<'_>,
    ) -> Result<(Changeset, Origin), BuildError> {
        let digest = self.identify(place.tree)?;
        let prepared = self.prepare(run, place, &digest)?;
        if self.request.cache == CacheUse::All
            && let Some(changes) = self.remembered(&prepared.key, place)?
        {
            return Ok((changes, Origin::Cached));
        }
        let changes = self.run(prepared, place, &digest)?;
        Ok((changes, Origin::Built))
    }

    /// The digest of a tree, for which all of its files must have been read once.
    fn identify(&self, tree: &Tree) -> Result<Digest, BuildError> {
        let changes = tree.as_changes();
        read_digests(self.store, &unread(&changes), self.request.jobs)
            .map_err(BuildError::Content)?;
        Ok(changes.digest()?)
    }

    fn prepare(
        &self,
        run: &spec::Run,
        place: &Place<'_>,
        tree: &Digest,
    ) -> Result<Prepared, BuildError> {
        let argv = match &run.command.value {
            Command::Shell(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
            Command::Argv(argv) => argv.clone(),
        };
        let (user, home) = self.user(run, place)?;
        let workdir = run.workdir.as_ref().map(|workdir| &workdir.value);
        let workdir = workdir
            .unwrap_or(&place.setting.workdir)
            .as_str()
            .to_owned();
        let env = self.environment(run, place);
        let mut prepared = Prepared {
            job: Job {
                argv,
                env,
                private_env: self.private_environment(),
                user,
                home,
                workdir,
                hostname: HOSTNAME.to_owned(),
                network: match run.network {
                    Network::Host => sandbox::Network::Host,
                    Network::None => sandbox::Network::None,
                },
                mounts: Vec::new(),
                limits: self.request.commands.limits.clone(),
                lower: PathBuf::new(),
                host_files: HOST_FILES.iter().map(PathBuf::from).collect(),
            },
            key: KeyRecord::new("run"),
            locks: Vec::new(),
            binds: Vec::new(),
        };
        let mut lines = Vec::new();
        let mut binds = place.binds.iter();
        for mount in &run.mounts {
            lines.extend(self.mount(&mut prepared, mount, &mut binds)?);
        }
        self.certificates(&mut prepared.job);
        prepared.key = self.key(&prepared.job, tree, &lines);
        Ok(prepared)
    }

    fn key(&self, job: &Job, tree: &Digest, mounts: &[String]) -> KeyRecord {
        let env: Vec<String> = job
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let groups: Vec<String> = job.user.groups.iter().map(u32::to_string).collect();
        let user = format!("{}:{}:{}", job.user.uid, job.user.gid, groups.join(","));
        key::Run {
            runner: RUNNER,
            tree,
            argv: &texts(&job.argv),
            env: &texts(&env),
            user: &user,
            workdir: &job.workdir,
            network: match job.network {
                sandbox::Network::Host => "host",
                sandbox::Network::None => "none",
            },
            mounts: &texts(mounts),
            platform: &self.plan.platform.to_string(),
            epoch: self.request.epoch,
        }
        .key()
    }

    /// Who runs it: the step's own user, else the stage's, else the base's, else root.
    fn user(&self, run: &spec::Run, place: &Place<'_>) -> Result<(RunUser, String), BuildError> {
        let of_stage = place.setting.stage.stage.config.user.as_ref();
        let of_base = place
            .setting
            .config
            .map(|config| config.config.user.as_str());
        let parsed;
        let owner = match (run.user.as_ref().or(of_stage), of_base) {
            (Some(owner), _) => owner,
            (None, None | Some("")) => return Ok((RunUser::default(), "/root".to_owned())),
            (None, Some(text)) => {
                let span = place.setting.stage.stage.from.span;
                let value = text.parse().map_err(|error: spec::ValueError| {
                    let message = format!("the base's user {text:?} makes no sense");
                    let diagnostic = Diagnostic::new(&self.plan.source, span, message);
                    Diagnostics::from(diagnostic.help(error.message))
                })?;
                parsed = spec::Spanned::new(value, span);
                &parsed
            }
        };
        let (uid, gid) = owner_numbers(owner, &place.setting.accounts).map_err(self.complain())?;
        let known = place.setting.accounts.user_by_uid(uid);
        let home = known.map_or("/", |(_, user)| user.home.as_str());
        let name = known.map_or("", |(name, _)| name);
        let groups = place.setting.accounts.groups_of(name);
        Ok((RunUser { uid, gid, groups }, home.to_owned()))
    }

    /// What the base, the stage and the step say, in this order.
    fn environment(&self, run: &spec::Run, place: &Place<'_>) -> Vec<(String, String)> {
        let base = place.setting.config.map(|config| config.config.env.clone());
        let env = environment(
            base.unwrap_or_default(),
            &place.setting.stage.stage.config.env,
        );
        let mut env = environment(env, &run.env);
        let epoch = "SOURCE_DATE_EPOCH=";
        if !env.iter().any(|line| line.starts_with(epoch)) {
            env.push(format!("{epoch}{}", self.request.epoch));
        }
        let split = |line: String| match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (line, String::new()),
        };
        env.into_iter().map(split).collect()
    }

    fn private_environment(&self) -> Vec<(String, Secret)> {
        let own = self.request.commands.private_env.iter();
        own.map(|(name, value)| (name.clone(), Secret::new(value.as_bytes())))
            .collect()
    }

    /// Offers the certificates of the machine, where the tree itself might know fewer.
    fn certificates(&self, job: &mut Job) {
        let Some(bundle) = &self.request.commands.certificates else {
            return;
        };
        if job.network == sandbox::Network::None {
            return;
        }
        job.mounts.push(Mount {
            target: CERTIFICATES.to_owned(),
            kind: MountKind::Path {
                source: bundle.clone(),
                writes: Writes::Refused,
            },
        });
        for name in CERTIFICATE_VARIABLES {
            let value = Secret::new(CERTIFICATES.as_bytes());
            job.private_env.push((name.to_owned(), value));
        }
    }

    /// Adds one mount; gives its line in the key, if it has one.
    fn mount<'a>(
        &self,
        prepared: &mut Prepared,
        mount: &spec::Spanned<spec::Mount>,
        binds: &mut impl Iterator<Item = &'a Tree>,
    ) -> Result<Option<String>, BuildError> {
        let workdir: AbsolutePath = prepared.job.workdir.parse().unwrap_or_default();
        let under = |path: &spec::ImagePath| path.under(&workdir).as_str().to_owned();
        let (target, kind, line) = match &mount.value {
            spec::Mount::Cache {
                name,
                target,
                sharing,
            } => {
                let target = under(&target.value);
                let source = self.cache(name.as_str(), *sharing, prepared)?;
                let line = format!("cache {} {target}", name.as_str());
                let writes = Writes::Kept;
                (target, MountKind::Path { source, writes }, line)
            }
            spec::Mount::Secret {
                id,
                target,
                required,
            } => {
                let id = id.as_str();
                let Some(secret) = self.request.commands.secrets.get(id) else {
                    if *required {
                        let message = format!("the secret {id:?} is not given");
                        let help = format!(
                            "give it: --secret id={id},src=FILE or --secret id={id},env=NAME"
                        );
                        return Err(self.wrong(mount.span, message, help));
                    }
                    return Ok(Some(format!("secret {id} absent")));
                };
                match target {
                    SecretTarget::Variable(name) => {
                        prepared
                            .job
                            .private_env
                            .push((name.value.clone(), secret.clone()));
                        return Ok(Some(format!("secret {id} variable {}", name.value)));
                    }
                    SecretTarget::File(path) => {
                        let target = path.value.as_str().to_owned();
                        let line = format!("secret {id} {target}");
                        let content = secret.clone();
                        (
                            target,
                            MountKind::Secret {
                                content,
                                mode: 0o400,
                            },
                            line,
                        )
                    }
                }
            }
            spec::Mount::Bind {
                source,
                target,
                writable,
                ..
            } => {
                let target = under(&target.value);
                let tree = binds.next().ok_or_else(|| {
                    let message = "this mount has nothing to take files from".to_owned();
                    self.wrong(mount.span, message, "name a source".to_owned())
                })?;
                let tree = self.part(tree, source)?;
                let digest = self.identify(&tree)?;
                let line = format!("bind {digest} {target} {writable}");
                prepared
                    .binds
                    .push((prepared.job.mounts.len(), tree, digest));
                let writes = match writable {
                    true => Writes::Discarded,
                    false => Writes::Refused,
                };
                let source = PathBuf::new();
                (target, MountKind::Path { source, writes }, line)
            }
            spec::Mount::Tmpfs { target, size } => {
                let target = under(&target.value);
                let size = size.as_ref().map(|size| size.value.0);
                let line = format!("tmpfs {target} {size:?}");
                (target, MountKind::Tmpfs { size }, line)
            }
            spec::Mount::Ssh { id } => {
                let name = id.as_str();
                let Some(socket) = self.request.commands.agents.get(name) else {
                    let message = format!("the SSH agent {name:?} is not given");
                    let help = format!("give it: --ssh {name}, or --ssh {name}=SOCKET");
                    return Err(self.wrong(mount.span, message, help));
                };
                let target = format!("/run/boxwright/ssh-{name}");
                let value = Secret::new(target.as_bytes());
                let variable = "SSH_AUTH_SOCK".to_owned();
                prepared.job.private_env.push((variable, value));
                let source = socket.clone();
                let writes = Writes::Kept;
                (
                    target,
                    MountKind::Path { source, writes },
                    format!("ssh {name}"),
                )
            }
        };
        prepared.job.mounts.push(Mount { target, kind });
        Ok(Some(line))
    }

    fn wrong(&self, span: Span, message: String, help: String) -> BuildError {
        let diagnostic = Diagnostic::new(&self.plan.source, span, message).help(help);
        Diagnostics::from(diagnostic).into()
    }

    /// The part of a tree at a path, as a tree of its own.
    fn part(
        &self,
        tree: &Tree,
        source: &spec::Spanned<spec::ContextPath>,
    ) -> Result<Tree, BuildError> {
        let text = source.value.as_str();
        let found = tree.resolve(&LayerPath::root(), text.as_bytes(), Follow::Last);
        let path = found.ok().map(|found| found.path);
        let path = path.filter(|path| path.is_root() || tree.entry(path).is_some());
        let Some(path) = path else {
            let help = "name a file or directory of the source".to_owned();
            return Err(self.wrong(source.span, format!("{text:?} is not there"), help));
        };
        let is_file = tree.entry(&path).is_some_and(|entry| !entry.is_directory());
        if is_file {
            let help = "name the directory that holds it".to_owned();
            let message = format!("{text:?} is a file, and only directories can be mounted");
            return Err(self.wrong(source.span, message, help));
        }
        let mut part = Tree::new();
        for (below, entry) in tree.below(&path).skip(usize::from(!path.is_root())) {
            if let Some(below) = below.strip_prefix(&path).filter(|below| !below.is_root()) {
                part.insert(below, entry.clone());
            }
        }
        Ok(part)
    }

    /// The directory of a cache. Where two commands must not share it, this one waits for it, or
    /// gets one of its own.
    fn cache(
        &self,
        name: &str,
        sharing: Sharing,
        prepared: &mut Prepared,
    ) -> Result<PathBuf, BuildError> {
        // Mounts are made somewhere else.
        let caches = std::path::absolute(self.store.root().join("caches"))
            .map_err(BuildError::cache(self.store.root()))?;
        let mut number = 0;
        loop {
            let path = match number {
                0 => caches.join(name),
                number => caches.join(format!("{name}.{number}")),
            };
            let lock = caches.join(format!("{name}.{number}.lock"));
            fs::create_dir_all(&path).map_err(BuildError::cache(&path))?;
            if sharing == Sharing::Private {
                let file = File::create(&lock).map_err(BuildError::cache(&lock))?;
                if file.try_lock().is_err() {
                    number += 1;
                    continue;
                }
            }
            if sharing != Sharing::Shared {
                prepared.locks.push(lock);
            }
            return Ok(path);
        }
    }

    /// The changes under a key, if they are still whole.
    fn remembered(
        &self,
        key: &KeyRecord,
        place: &Place<'_>,
    ) -> Result<Option<Changeset>, BuildError> {
        let Some(value) = self.store.record(key)? else {
            return Ok(None);
        };
        let Ok(listing) = <[u8; 32]>::try_from(value.as_slice()) else {
            return Ok(None);
        };
        let Some(changes) = self.listed(&Digest::from_raw(listing), place)? else {
            return Ok(None);
        };
        for blob in blobs(&changes) {
            if !self.store.contains_blob(&blob)? {
                return Ok(None);
            }
        }
        Ok(Some(changes))
    }

    /// The changes of a listing, if the store has it whole.
    fn listed(&self, listing: &Digest, place: &Place<'_>) -> Result<Option<Changeset>, BuildError> {
        let Some(file) = self.store.open_blob(listing)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = file.take(MOST_LISTING).read_to_end(&mut bytes);
        if read.is_err() || Digest::of(&bytes) != *listing {
            return Ok(None);
        }
        Ok(Changeset::read_listing(&bytes, place.setting.space(place.step)).ok())
    }

    fn run(
        &self,
        mut prepared: Prepared,
        place: &Place<'_>,
        digest: &Digest,
    ) -> Result<Changeset, BuildError> {
        let settings = self.sandbox()?;
        let footing = self.footing_of(&settings)?;
        let locks: Result<Vec<File>, BuildError> = prepared
            .locks
            .iter()
            .map(|path| {
                let file = File::create(path).map_err(BuildError::cache(path))?;
                file.lock().map_err(BuildError::cache(path))?;
                Ok(file)
            })
            .collect();
        let locks = locks?;
        prepared.job.lower = self.materialize(place.tree, digest, &footing, &settings)?;
        for (at, tree, digest) in &prepared.binds {
            let lower = self.materialize(tree, digest, &footing, &settings)?;
            if let Some(Mount {
                kind: MountKind::Path { source, .. },
                ..
            }) = prepared.job.mounts.get_mut(*at)
            {
                *source = lower;
            }
        }
        let (stage, step) = (place.setting.stage.name(), place.step);
        let told = |stream, line: &[u8]| {
            let text = String::from_utf8_lossy(line);
            self.observer.event(Event::StepOutput {
                stage,
                step: step.number,
                stream: match stream {
                    sandbox::Stream::Out => "out",
                    sandbox::Stream::Err => "err",
                },
                text: &text,
            });
        };
        let ran = sandbox::run(&prepared.job, &footing, &settings, self.store, &told);
        drop(locks);
        let outcome = ran.map_err(|source| BuildError::Command {
            stage: stage.to_owned(),
            step: step.number,
            title: step.title.clone(),
            source: Box::new(source),
        })?;
        self.note(outcome.notes);
        let missing = || BuildError::Content(ContentError::NotUnpacked(outcome.listing));
        let changes = self.listed(&outcome.listing, place)?.ok_or_else(missing)?;
        let mut needed: Vec<Digest> = blobs(&changes).into_iter().collect();
        needed.push(outcome.listing);
        self.store
            .put_record_with_blobs(&prepared.key, outcome.listing.raw(), &needed)?;
        Ok(changes)
    }

    /// The tree on disk. Layers of bases that hold its contents are unpacked first.
    fn materialize(
        &self,
        tree: &Tree,
        digest: &Digest,
        footing: &Footing,
        settings: &SandboxSettings,
    ) -> Result<PathBuf, BuildError> {
        let bases = self.bases();
        for blob in blobs(&tree.as_changes()) {
            if !self.store.contains_blob(&blob)? {
                bases::unpack(&bases, &blob, self.store)?;
            }
        }
        let path = sandbox::materialize(tree, digest, footing, settings, self.store);
        path.map_err(BuildError::sandbox)
    }

    fn sandbox(&self) -> Result<SandboxSettings, BuildError> {
        let commands = &self.request.commands;
        Ok(SandboxSettings {
            program: commands.program.clone().unwrap_or_default(),
            scratch: self.store.root().join("scratch"),
            letter: commands.letter,
        })
    }

    fn footing_of(&self, settings: &SandboxSettings) -> Result<Footing, BuildError> {
        if let Some(footing) = self.footing.get() {
            return Ok(footing.clone());
        }
        let footing = sandbox::best(settings).map_err(BuildError::sandbox)?;
        let tier = footing.tier.to_string();
        self.observer.event(Event::Sandbox { tier: &tier });
        Ok(self.footing.get_or_init(|| footing).clone())
    }
}

/// The most that a listing may hold: more than any image that can be read back.
const MOST_LISTING: u64 = 1 << 30;

/// The name of the machine that every command sees.
const HOSTNAME: &str = "boxwright";

/// Files of the machine without which names are not found.
const HOST_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Where the machine's certificates appear.
const CERTIFICATES: &str = "/run/boxwright/ca-certificates.crt";

/// The variables by which programs find certificates: OpenSSL and most, curl, git, Node, pip,
/// requests, Cargo.
const CERTIFICATE_VARIABLES: [&str; 7] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
];

/// The blobs that contents of a changeset lie in.
fn blobs(changes: &Changeset) -> BTreeSet<Digest> {
    let files = changes
        .iter()
        .filter_map(|(_, change)| change.entry()?.as_file());
    let ranges = files.filter_map(|file| match &file.content {
        Content::Blob(range) => Some(range.blob),
        Content::Disk(_) | Content::Inline(_) => None,
    });
    ranges.collect()
}

fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}
