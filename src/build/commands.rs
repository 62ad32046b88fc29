//! Commands of stages: their keys, what they find, and what becomes of their results.
//!
//! A command's result is a changeset under a key that covers everything the command can see. The
//! tree that it runs in is one of these things, by its own digest and not by the steps that made
//! it: a step that comes to the same tree as before makes nothing behind it run again.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
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
    self, Caches, Footing, HeldCache, Hold, Job, Listed, Mount, MountKind, RunUser,
    SandboxSettings, Secret,
};
use crate::spec::{self, Command, Diagnostic, Diagnostics, Network};
use crate::steps::owner_numbers;
use crate::store::{ContentError, KeyRecord};
use crate::tree::{Changeset, Content, Tree};

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
pub(crate) struct Prepared {
    pub(crate) job: Job,
    key: KeyRecord,
    /// Held while the command runs. All commands take them in the order of names, so that no two
    /// wait for each other.
    pub(crate) caches: BTreeMap<String, Hold>,
    /// Trees that are mounted, by the place of their mount.
    pub(crate) binds: Vec<(usize, Tree, Digest)>,
}

impl Workshop<'_> {
    /// What the command of a step changes: remembered, or found out by running it.
    pub(crate) fn command(
        &self,
        run: &spec::Run,
        place: &Place<'_>,
    ) -> Result<(Changeset, Origin), BuildError> {
        let digest = self.identify(place.tree)?;
        let mut prepared = self.prepare(run, place, &digest)?;
        if let Some(changes) = self.remembered(&prepared.key, place)? {
            return Ok((changes, Origin::Cached));
        }
        if run.network == Network::Host && self.registries.is_offline() {
            // Under a key of its own: without a network a command may do another thing.
            let cut = spec::Run {
                network: Network::None,
                ..run.clone()
            };
            prepared = self.prepare(&cut, place, &digest)?;
            if let Some(changes) = self.remembered(&prepared.key, place)? {
                return Ok((changes, Origin::Cached));
            }
            let (stage, step) = (place.setting.stage.name(), place.step.number);
            let text = format!("--offline: step {step} of stage {stage:?} runs without a network");
            self.observer.event(Event::Note { text: &text });
        }
        self.run_once(prepared, place, &digest)
    }

    /// Runs a command, unless somebody else is at the very same one: then their result is ours.
    fn run_once(
        &self,
        prepared: Prepared,
        place: &Place<'_>,
        tree: &Digest,
    ) -> Result<(Changeset, Origin), BuildError> {
        let is_told = Cell::new(false);
        let is_wanted = || {
            if !is_told.replace(true) {
                self.observer.event(Event::StepWaits {
                    stage: place.setting.stage.name(),
                    step: place.step.number,
                });
            }
            !self.stop.is_pulled()
        };
        let _claim = self.store.claim_in_turn(&prepared.key, &is_wanted);
        if let Some(changes) = self.remembered(&prepared.key, place)? {
            return Ok((changes, Origin::Reused));
        }
        let key = prepared.key.digest();
        let changes = self.run(prepared, place, tree)?;
        self.contexts.crew.has_made(key);
        Ok((changes, Origin::Built))
    }

    /// The digest of a tree, for which all of its files must have been read once.
    pub(crate) fn identify(&self, tree: &Tree) -> Result<Digest, BuildError> {
        let changes = tree.as_changes();
        let helpers = self.contexts.crew.all_hands();
        read_digests(self.store, &unread(&changes), helpers.and_me())
            .map_err(BuildError::Content)?;
        drop(helpers);
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
                hostname: self.request.commands.hostname.clone(),
                network: match run.network {
                    Network::Host => sandbox::Network::Host,
                    Network::None => sandbox::Network::None,
                },
                mounts: Vec::new(),
                limits: self.request.commands.limits.clone(),
                lowers: Vec::new(),
                host_files: HOST_FILES.iter().map(PathBuf::from).collect(),
            },
            key: KeyRecord::new("run"),
            caches: BTreeMap::new(),
            binds: Vec::new(),
        };
        let mut lines = Vec::new();
        let mut binds = place.binds.iter();
        for mount in &run.mounts {
            lines.push(self.mount(&mut prepared, mount, &mut binds)?);
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

    /// Who runs it: the step's own user, else that of what the stage starts from, else root. The
    /// stage's own `config` is about containers of its image.
    fn user(&self, run: &spec::Run, place: &Place<'_>) -> Result<(RunUser, String), BuildError> {
        let of_base = place
            .setting
            .config
            .map(|config| config.config.user.as_str());
        let parsed;
        let owner = match (run.user.as_ref(), of_base) {
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

    /// The changes under a key, if they may be used and are still whole.
    fn remembered(
        &self,
        key: &KeyRecord,
        place: &Place<'_>,
    ) -> Result<Option<Changeset>, BuildError> {
        let is_new = || self.contexts.crew.made(&key.digest());
        if self.request.cache == CacheUse::BasesOnly && !is_new() {
            return Ok(None);
        }
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
        let Some(bytes) = self.store.small_blob(listing, MOST_LISTING)? else {
            return Ok(None);
        };
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
        let held = self.hold(&prepared.caches)?;
        prepared.job.lowers = self.lowers(place, digest, &footing, &settings)?;
        for (at, tree, digest) in &prepared.binds {
            self.bring(tree)?;
            let wanted = Listed { tree, digest };
            let lower = sandbox::materialize(wanted, &footing, &settings, self.store);
            let lower = lower.map_err(BuildError::sandbox)?;
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
        drop(held);
        let outcome = ran.map_err(|source| BuildError::Command {
            stage: stage.to_owned(),
            step: step.number,
            title: step.title.clone(),
            source: Box::new(source.of_platform(&self.plan.platform)),
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

    fn hold(&self, caches: &BTreeMap<String, Hold>) -> Result<Vec<HeldCache>, BuildError> {
        let all = Caches::of(self.store.root()).map_err(BuildError::cache(self.store.root()))?;
        let mut held = Vec::new();
        for (name, hold) in caches {
            let cache = all.hold(name, *hold, &|| {});
            let cache = cache.map_err(BuildError::cache(&all.path(name)))?;
            cache.mark_used();
            held.push(cache);
        }
        Ok(held)
    }

    /// The tree that a command runs in, on disk: on that of its base image, if there is one.
    fn lowers(
        &self,
        place: &Place<'_>,
        digest: &Digest,
        footing: &Footing,
        settings: &SandboxSettings,
    ) -> Result<Vec<PathBuf>, BuildError> {
        let tree = place.tree;
        let wanted = Listed { tree, digest };
        self.bring(tree)?;
        let lowers = match place.setting.base {
            None => {
                sandbox::materialize(wanted, footing, settings, self.store).map(|lower| vec![lower])
            }
            Some(base) => {
                self.bring(&base.tree)?;
                sandbox::materialize_over(wanted, base.listed()?, footing, settings, self.store)
            }
        };
        lowers.map_err(BuildError::sandbox)
    }

    /// Unpacks the layers of bases that hold a tree's contents.
    fn bring(&self, tree: &Tree) -> Result<(), BuildError> {
        let bases = self.bases();
        for blob in blobs(&tree.as_changes()) {
            if !self.store.contains_blob(&blob)? {
                bases::unpack(&bases, &blob, self.store)?;
            }
        }
        Ok(())
    }

    fn sandbox(&self) -> Result<SandboxSettings, BuildError> {
        let commands = &self.request.commands;
        Ok(SandboxSettings {
            program: commands.program.clone().unwrap_or_default(),
            scratch: self.store.root().join("scratch"),
            letter: commands.letter,
            stop: self.stop.clone(),
            circumstances: commands.circumstances,
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

/// Files of the machine without which names are not found.
const HOST_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

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
