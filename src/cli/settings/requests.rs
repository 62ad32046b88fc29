//! Requests: each command's arguments become what the library is asked for.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxwright::build::{BuildRequest, CacheUse, CommandSettings, SharedCacheSettings};
use boxwright::oci::{Platform, Reference};
use boxwright::sandbox::Secret;
use boxwright::spec::{ImageSource, Lock, Name, SourceText};

use crate::cli::args::{BenchArgs, BuildArgs, CheckArgs, LockArgs, Override, VerifyArgs};
use crate::cli::exit::{Blame, Failure};
use crate::cli::lock;
use crate::cli::settings::{Environment, MOST_TEXT, read_at_most};

/// The name of a spec in its folder.
pub(crate) const SPEC_NAME: &str = "boxwright.yaml";

/// What one command was asked to make.
pub(crate) struct Asked {
    /// A request for each image.
    pub(crate) requests: Vec<BuildRequest>,
    /// The services of compose files that run each image; none without compose files.
    pub(crate) services: Vec<Vec<String>>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// One image of those that one command makes: what is said of it alone.
pub(crate) struct Member {
    pub(crate) spec_file: PathBuf,
    pub(crate) target: Option<Name>,
    pub(crate) profile: Option<Name>,
    /// Values of arguments, which go before those for all images.
    pub(crate) args: Vec<(String, String)>,
    /// Directories for contexts, relative to the working directory.
    pub(crate) contexts: Vec<(Name, PathBuf)>,
    /// The image's full names; empty leaves them to the command line, and after it to the spec.
    pub(crate) names: Vec<Reference>,
    /// The services of compose files that run it.
    pub(crate) services: Vec<String>,
    /// What to build for, if the command line does not say it.
    pub(crate) platforms: Vec<Platform>,
    /// Secrets and agents of its commands, beside those for all images, which go before them.
    pub(crate) secrets: Vec<(Name, Vec<u8>)>,
    pub(crate) agents: Vec<(Name, Option<PathBuf>)>,
    /// Whether every step is done again.
    pub(crate) is_uncached: bool,
}

impl Member {
    /// An image of which only the spec is known.
    pub(crate) fn of_spec(spec_file: PathBuf) -> Member {
        Member {
            spec_file,
            target: None,
            profile: None,
            args: Vec::new(),
            contexts: Vec::new(),
            names: Vec::new(),
            services: Vec::new(),
            platforms: Vec::new(),
            secrets: Vec::new(),
            agents: Vec::new(),
            is_uncached: false,
        }
    }
}

impl Environment {
    /// What `boxwright build` was asked for.
    pub(crate) fn build_requests(&self, args: &BuildArgs) -> Result<Asked, Failure> {
        let (members, notes) = self.members(args)?;
        if members.len() > 1 {
            for_one_image_only(args)?;
        }
        let services = members.iter().map(|member| member.services.clone());
        let services = services.collect();
        let requests = members
            .into_iter()
            .map(|member| self.build_request(member, args));
        Ok(Asked {
            requests: requests.collect::<Result<_, _>>()?,
            services,
            notes,
        })
    }

    /// The images that the command line names, and what a person should know of them.
    fn members(&self, args: &BuildArgs) -> Result<(Vec<Member>, Vec<String>), Failure> {
        if !args.compose.files.is_empty() {
            return self.composed(args);
        }
        if let Some(file) = &args.spec.file {
            return Ok((vec![Member::of_spec(file.clone())], Vec::new()));
        }
        let specs = args.spec.specs.iter();
        let members = specs.map(|typed| Ok(Member::of_spec(spec_file(typed)?)));
        Ok((members.collect::<Result<_, Failure>>()?, Vec::new()))
    }

    /// What a member says goes before what the command line says for all.
    fn build_request(&self, member: Member, args: &BuildArgs) -> Result<BuildRequest, Failure> {
        let typed_contexts = args.spec.contexts.iter();
        let typed_contexts = typed_contexts.map(|one| (one.name.clone(), one.directory.clone()));
        let mut arg_overrides = self.overrides(&args.spec.args)?;
        arg_overrides.extend(member.args);
        let mut commands = self.commands(&args.commands)?;
        for (id, bytes) in member.secrets {
            let id = id.as_str().to_owned();
            commands.secrets.entry(id).or_insert(Secret::new(bytes));
        }
        for (id, socket) in member.agents {
            let socket = socket.or_else(|| self.value("SSH_AUTH_SOCK").map(PathBuf::from));
            if let Some(socket) = socket {
                let id = id.as_str().to_owned();
                commands.agents.entry(id).or_insert(socket);
            }
        }
        Ok(BuildRequest {
            source: read_spec(&member.spec_file)?,
            target: member.target.or_else(|| args.spec.target.clone()),
            profile: member.profile.or_else(|| args.spec.profile.clone()),
            arg_overrides,
            context_overrides: typed_contexts.chain(member.contexts).collect(),
            platforms: match args.spec.platforms.is_empty() {
                true => member.platforms,
                false => args.spec.platforms.clone(),
            },
            outputs: args.result.outputs.clone(),
            left_out: args.compose.compose_lock.iter().cloned().collect(),
            names: match member.names.is_empty() {
                true => args.result.tags.clone(),
                false => member.names,
            },
            format: args.result.format,
            compression: args.result.compression,
            store_root: self.store_root(args.how.store.store.as_deref())?,
            registries: self.registries(&args.network),
            lock: lock_of(&member.spec_file, args.how.locked)?,
            cache: match args.how.no_cache || member.is_uncached {
                true => CacheUse::BasesOnly,
                false => CacheUse::All,
            },
            shared: self.shared_cache(&args.shared)?,
            jobs: args.how.jobs.unwrap_or_else(processors),
            commands,
            epoch: self.epoch()?,
            spec_file: member.spec_file,
        })
    }

    /// The build that `boxwright bench` measures; its own store is only for looking.
    pub(crate) fn bench_request(
        &self,
        args: &BenchArgs,
        store: &Path,
    ) -> Result<BuildRequest, Failure> {
        let spec_file = spec_file(&args.spec)?;
        Ok(BuildRequest {
            target: args.target.clone(),
            profile: args.profile.clone(),
            arg_overrides: self.overrides(&args.args)?,
            store_root: store.to_owned(),
            ..self.bare_request(spec_file)?
        })
    }

    /// The build whose target `boxwright check SPEC` looks at.
    pub(crate) fn check_request(
        &self,
        args: &CheckArgs,
        spec: &Path,
    ) -> Result<BuildRequest, Failure> {
        let spec_file = spec_file(spec)?;
        Ok(BuildRequest {
            target: args.target.clone(),
            profile: args.profile.clone(),
            arg_overrides: self.overrides(&args.args)?,
            store_root: self.store_root(args.store.store.as_deref())?,
            registries: self.registries(&args.network),
            lock: lock_of(&spec_file, args.locked)?,
            commands: self.commands(&args.commands)?,
            ..self.bare_request(spec_file)?
        })
    }

    /// The build of which `boxwright lock` notes what it would take from outside.
    pub(crate) fn lock_request(&self, args: &LockArgs) -> Result<BuildRequest, Failure> {
        let spec_file = match &args.file {
            Some(file) => file.clone(),
            None => spec_file(&args.spec)?,
        };
        Ok(BuildRequest {
            profile: args.profile.clone(),
            arg_overrides: self.overrides(&args.args)?,
            platforms: args.platforms.clone(),
            store_root: self.store_root(args.store.store.as_deref())?,
            registries: self.registries(&args.network),
            ..self.bare_request(spec_file)?
        })
    }

    /// The build that `boxwright verify` does; everything of it lies in `place`.
    pub(crate) fn verify_request(
        &self,
        args: &VerifyArgs,
        spec: &Path,
        place: &Path,
    ) -> Result<BuildRequest, Failure> {
        let name = format!("localhost/boxwright-verify-{}:verify", std::process::id());
        let bug = |error| Failure::failed(Blame::Bug, &error);
        let spec_file = spec_file(spec)?;
        Ok(BuildRequest {
            lock: lock_of(&spec_file, args.locked)?,
            target: args.target.clone(),
            profile: args.profile.clone(),
            arg_overrides: self.overrides(&args.args)?,
            outputs: vec![ImageSource::OciArchive {
                file: place.join("image.tar"),
                reference: None,
            }],
            names: vec![name.parse().map_err(bug)?],
            store_root: place.join("store"),
            registries: self.registries(&args.network),
            commands: self.commands(&args.commands)?,
            ..self.bare_request(spec_file)?
        })
    }

    /// Variables with their values, for a container.
    pub(crate) fn variables(&self, typed: &[Override]) -> Result<Vec<(String, String)>, Failure> {
        self.overrides(typed)
    }

    /// The build of a spec, of which nothing was said but which.
    fn bare_request(&self, spec_file: PathBuf) -> Result<BuildRequest, Failure> {
        Ok(BuildRequest {
            source: read_spec(&spec_file)?,
            spec_file,
            target: None,
            profile: None,
            arg_overrides: Vec::new(),
            context_overrides: Vec::new(),
            platforms: Vec::new(),
            outputs: Vec::new(),
            left_out: Vec::new(),
            names: Vec::new(),
            format: Default::default(),
            compression: None,
            store_root: PathBuf::new(),
            registries: self.registries(&Default::default()),
            lock: None,
            cache: CacheUse::All,
            shared: SharedCacheSettings::default(),
            jobs: processors(),
            commands: CommandSettings::default(),
            epoch: self.epoch()?,
        })
    }
}

/// The lock beside a spec, if it is wanted.
fn lock_of(spec_file: &Path, is_wanted: bool) -> Result<Option<Lock>, Failure> {
    let lock = is_wanted.then(|| lock::existing(&lock::lock_file(spec_file)));
    lock.transpose()
}

fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Several images cannot have one name or one file.
fn for_one_image_only(args: &BuildArgs) -> Result<(), Failure> {
    let refuse = |what: &str, hint: &str| {
        let headline = format!("{what} is for one image, and several specs are built");
        Err(Failure::new(Blame::CommandLine, headline).hint(hint))
    };
    if !args.result.tags.is_empty() {
        return refuse(
            "--tag",
            "let each spec name its image: `image:` and `tags:`",
        );
    }
    if args.shared.cache_to.is_some() {
        return refuse("--cache-to", "give each image a cache of its own");
    }
    if args.how.dry_run || args.how.verify {
        return refuse("--dry-run, as --verify,", "build one spec after the other");
    }
    for output in &args.result.outputs {
        if !matches!(
            output,
            ImageSource::Layout {
                reference: None,
                ..
            }
        ) {
            let hint = "write -o oci:DIR for one layout of all, or no -o for an archive each";
            return refuse(&format!("-o {output}"), hint);
        }
    }
    Ok(())
}

/// The spec that a path names: itself, or the one in that folder.
fn spec_file(typed: &Path) -> Result<PathBuf, Failure> {
    if !typed.is_dir() {
        return Ok(typed.to_owned());
    }
    let file = match typed == Path::new(".") {
        true => PathBuf::from(SPEC_NAME),
        false => typed.join(SPEC_NAME),
    };
    if file.exists() {
        return Ok(file);
    }
    let place = match typed == Path::new(".") {
        true => "this folder".to_owned(),
        false => typed.display().to_string(),
    };
    let failure = Failure::new(Blame::Input, format!("there is no {SPEC_NAME} in {place}"));
    Err(if typed.join("Dockerfile").exists() {
        failure.hint(format!(
            "there is a Dockerfile; this version reads only {SPEC_NAME}"
        ))
    } else {
        failure.hint("name the spec or its folder: boxwright build path/to/folder")
    })
}

fn read_spec(file: &Path) -> Result<Arc<SourceText>, Failure> {
    let name = file.display().to_string();
    let bytes = read_at_most(file, MOST_TEXT).map_err(|error| {
        let blame = match error.kind() {
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::IsADirectory
            | std::io::ErrorKind::FileTooLarge => Blame::Input,
            _ => Blame::System,
        };
        Failure::new(blame, format!("cannot read the spec {name}")).because(&error)
    })?;
    Ok(Arc::new(SourceText::from_bytes(name, bytes)?))
}
