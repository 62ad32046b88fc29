//! Requests: each command's arguments become what the library is asked for.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxwright::build::{BuildRequest, CacheUse, CommandSettings, SPEC_NAME, SharedCacheSettings};
use boxwright::oci::{Platform, Reference};
use boxwright::sandbox::Secret;
use boxwright::spec::{
    Diagnostic, Diagnostics, ImageSource, Lock, MemberTag, Name, SourceText, Spanned,
};

use crate::cli::args::{
    BenchArgs, BuildArgs, CheckArgs, LockArgs, OutputArg, Override, Prefix, SecretSource,
    VerifyArgs,
};
use crate::cli::corridor;
use crate::cli::exit::{Blame, Failure};
use crate::cli::lock;
use crate::cli::settings::workspace::Chosen;
use crate::cli::settings::{Environment, MOST_TEXT, read_at_most};

/// What one command was asked to make.
pub(crate) struct Asked {
    /// A request for each image.
    pub(crate) requests: Vec<BuildRequest>,
    /// What each image is called, for people and in reports.
    pub(crate) names: Vec<String>,
    /// Whether they are told of as several, even if there is only one.
    pub(crate) is_group: bool,
    /// The services of compose files that run each image; none without compose files.
    pub(crate) services: Vec<Vec<String>>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// One image of those that one command makes: what is said of it alone.
pub(crate) struct Member {
    /// What people call it.
    pub(crate) name: String,
    pub(crate) spec_file: PathBuf,
    pub(crate) target: Option<Name>,
    pub(crate) profile: Option<Name>,
    /// Values of arguments, after which those of the command line count.
    pub(crate) args: Vec<(String, String)>,
    /// Whether `--arg` is still to be added to them.
    pub(crate) takes_typed_args: bool,
    /// Directories for contexts, relative to the working directory.
    pub(crate) contexts: Vec<(Name, PathBuf)>,
    /// What to build for, if the command line does not say it.
    pub(crate) platforms: Vec<Platform>,
    /// The image's full names; empty leaves them to the spec.
    pub(crate) names: Vec<Reference>,
    /// Further names, some of which are only known together with the spec, and where they stand.
    pub(crate) tags: Vec<(Arc<SourceText>, Spanned<MemberTag>)>,
    /// The services of compose files that run it.
    pub(crate) services: Vec<String>,
    /// Secrets and agents of its commands; those for all images go before them.
    pub(crate) secrets: Vec<(Name, Vec<u8>)>,
    pub(crate) agents: Vec<(Name, Option<PathBuf>)>,
    /// Whether every step is done again.
    pub(crate) is_uncached: bool,
    /// The files that say all this: nothing may be written over them.
    pub(crate) inputs: Vec<PathBuf>,
}

impl Member {
    /// An image of which only the spec is known.
    pub(crate) fn of_spec(spec_file: PathBuf) -> Member {
        Member {
            name: spec_file.display().to_string(),
            spec_file,
            target: None,
            profile: None,
            args: Vec::new(),
            takes_typed_args: true,
            contexts: Vec::new(),
            platforms: Vec::new(),
            names: Vec::new(),
            tags: Vec::new(),
            services: Vec::new(),
            secrets: Vec::new(),
            agents: Vec::new(),
            is_uncached: false,
            inputs: Vec::new(),
        }
    }

    /// The image of a spec that was typed.
    pub(crate) fn typed(path: &Path) -> Result<Member, Failure> {
        Ok(Member {
            name: path.display().to_string(),
            ..Member::of_spec(spec_file(path)?)
        })
    }
}

/// What is typed for all images of a command.
pub(crate) struct Typed<'a> {
    pub(crate) target: Option<&'a Name>,
    pub(crate) profile: Option<&'a Name>,
    pub(crate) args: &'a [Override],
}

impl<'a> Typed<'a> {
    fn of(target: Option<&'a Name>, profile: Option<&'a Name>, args: &'a [Override]) -> Typed<'a> {
        Typed {
            target,
            profile,
            args,
        }
    }
}

impl Environment {
    /// What `boxwright build` was asked for.
    pub(crate) fn build_requests(&self, args: &BuildArgs) -> Result<Asked, Failure> {
        let is_composed = !args.compose.files.is_empty();
        let mut notes = Vec::new();
        let members = match &args.spec.file {
            _ if is_composed => self.composed(args, &mut notes)?,
            Some(file) => vec![Member::of_spec(file.clone())],
            None => self.members(
                args.spec.workspace.as_deref(),
                &args.spec.specs,
                &args.spec.args,
            )?,
        };
        if members.len() > 1 {
            for_one_image_only(args)?;
        }
        let is_group = members.len() > 1 || args.spec.workspace.is_some() || is_composed;
        let services = members.iter().map(|member| member.services.clone());
        let services = services.collect();
        let names = members.iter().map(|member| member.name.clone()).collect();
        let requests = members
            .into_iter()
            .map(|member| self.build_request(member, args));
        Ok(Asked {
            requests: requests.collect::<Result<_, _>>()?,
            names,
            is_group,
            services,
            notes,
        })
    }

    /// The images that a command line names: members of a workspace, or specs.
    pub(crate) fn members(
        &self,
        workspace: Option<&Path>,
        words: &[PathBuf],
        args: &[Override],
    ) -> Result<Vec<Member>, Failure> {
        if let Some(file) = workspace {
            let names = words.iter().map(|word| word.display().to_string());
            let names = names.collect();
            return self.workspace(&Chosen { file, names, args });
        }
        if words.is_empty() {
            return Ok(vec![Member::typed(Path::new("."))?]);
        }
        words.iter().map(|word| Member::typed(word)).collect()
    }

    fn build_request(&self, member: Member, args: &BuildArgs) -> Result<BuildRequest, Failure> {
        let typed_contexts = args.spec.contexts.iter();
        let typed_contexts = typed_contexts.map(|one| (one.name.clone(), one.directory.clone()));
        let said = &args.spec;
        let typed = Typed::of(said.target.as_ref(), said.profile.as_ref(), &said.args);
        let mut commands = self.commands(&args.commands)?;
        for (id, bytes) in &member.secrets {
            let secret = || Secret::new(bytes.clone());
            let id = id.as_str().to_owned();
            commands.secrets.entry(id).or_insert_with(secret);
        }
        for (id, socket) in &member.agents {
            let own = || self.value("SSH_AUTH_SOCK").map(PathBuf::from);
            if let Some(socket) = socket.clone().or_else(own) {
                let id = id.as_str().to_owned();
                commands.agents.entry(id).or_insert(socket);
            }
        }
        let is_uncached = args.how.no_cache || member.is_uncached;
        let mut request = self.member_request(member, &typed)?;
        request.left_out.extend(args.compose.compose_lock.clone());
        request
            .inputs
            .extend(inputs_typed(args, &request.spec_file));
        request.context_overrides.splice(0..0, typed_contexts);
        if !args.spec.platforms.is_empty() {
            request.platforms.clone_from(&args.spec.platforms);
        }
        if !args.result.tags.is_empty() {
            request.names.clone_from(&args.result.tags);
        }
        request = BuildRequest {
            format: args.result.format,
            compression: args.result.compression,
            store_root: self.store_root(args.how.store.store.as_deref())?,
            registries: self.registries(&args.network),
            lock: lock_of(&request.spec_file, args.how.locked)?,
            cache: match is_uncached {
                true => CacheUse::BasesOnly,
                false => CacheUse::All,
            },
            shared: self.shared_cache(&args.shared)?,
            jobs: args.how.jobs.unwrap_or_else(processors),
            commands,
            ..request
        };
        request.outputs = outputs(&args.result.outputs, &request)?;
        Ok(request)
    }

    /// A build of a member, of which nothing is decided but what is built. What a member says of its
    /// stage and its profile goes before what the command line says for all.
    fn member_request(&self, member: Member, typed: &Typed<'_>) -> Result<BuildRequest, Failure> {
        let mut arg_overrides = member.args;
        if member.takes_typed_args {
            arg_overrides.extend(self.overrides("--arg", typed.args)?);
        }
        let mut request = BuildRequest {
            target: member.target.or_else(|| typed.target.cloned()),
            profile: member.profile.or_else(|| typed.profile.cloned()),
            arg_overrides,
            context_overrides: member.contexts,
            platforms: member.platforms,
            names: member.names,
            inputs: member.inputs,
            ..self.bare_request(member.spec_file)?
        };
        if !member.tags.is_empty() {
            let names = names_of_tags(&member.tags, &request)?;
            request.names.extend(names);
        }
        Ok(request)
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
            arg_overrides: self.overrides("--arg", &args.args)?,
            store_root: store.to_owned(),
            ..self.bare_request(spec_file)?
        })
    }

    /// The build whose target `boxwright check SPEC` looks at.
    pub(crate) fn check_request(
        &self,
        args: &CheckArgs,
        member: Member,
    ) -> Result<BuildRequest, Failure> {
        let typed = Typed::of(args.target.as_ref(), args.profile.as_ref(), &args.args);
        let request = self.member_request(member, &typed)?;
        Ok(BuildRequest {
            store_root: self.store_root(args.store.store.as_deref())?,
            registries: self.registries(&args.network),
            lock: lock_of(&request.spec_file, args.locked)?,
            commands: self.commands(&args.commands)?,
            ..request
        })
    }

    /// The builds of which `boxwright lock` notes what they would take from outside.
    pub(crate) fn lock_requests(&self, args: &LockArgs) -> Result<Vec<BuildRequest>, Failure> {
        let members = match &args.file {
            Some(file) => vec![Member::of_spec(file.clone())],
            None => self.members(args.workspace.as_deref(), &args.specs, &args.args)?,
        };
        let typed = Typed::of(None, args.profile.as_ref(), &args.args);
        let requests = members.into_iter().map(|member| {
            let request = self.member_request(member, &typed)?;
            Ok(BuildRequest {
                platforms: match args.platforms.is_empty() {
                    true => request.platforms,
                    false => args.platforms.clone(),
                },
                store_root: self.store_root(args.store.store.as_deref())?,
                registries: self.registries(&args.network),
                ..request
            })
        });
        requests.collect()
    }

    /// The build that `boxwright verify` does; everything of it lies in `place`. It has no names but
    /// the spec's.
    pub(crate) fn verify_request(
        &self,
        args: &VerifyArgs,
        member: Member,
        place: &Path,
    ) -> Result<BuildRequest, Failure> {
        let typed = Typed::of(args.target.as_ref(), args.profile.as_ref(), &args.args);
        let request = self.member_request(member, &typed)?;
        Ok(BuildRequest {
            lock: lock_of(&request.spec_file, args.locked)?,
            outputs: vec![ImageSource::OciArchive {
                file: place.join("image.tar"),
                reference: None,
            }],
            names: Vec::new(),
            store_root: place.join("store"),
            registries: self.registries(&args.network),
            commands: self.commands(&args.commands)?,
            ..request
        })
    }

    /// Variables with their values, for a container.
    pub(crate) fn variables(&self, typed: &[Override]) -> Result<Vec<(String, String)>, Failure> {
        self.overrides("--env", typed)
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
            inputs: Vec::new(),
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

/// The files that the command line names beside a spec, and its lock: nothing may be written over
/// them.
fn inputs_typed(args: &BuildArgs, spec_file: &Path) -> Vec<PathBuf> {
    let secrets = args.commands.secrets.iter();
    let secrets = secrets.filter_map(|secret| match &secret.source {
        SecretSource::File(path) => Some(path.clone()),
        SecretSource::Variable(_) => None,
    });
    let others = [
        Some(lock::lock_file(spec_file)),
        args.shared.cache_key.clone(),
    ];
    others.into_iter().flatten().chain(secrets).collect()
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
            "let each spec name its image: `image:` and `tags:`; or a workspace its members: `tags:`",
        );
    }
    if args.shared.cache_to.is_some() {
        return refuse("--cache-to", "give each image a cache of its own");
    }
    if args.how.verify {
        return refuse("--verify", "`boxwright verify` takes several");
    }
    for output in &args.result.outputs {
        let has_room = match output {
            OutputArg::Place(ImageSource::Layout { reference, .. }) => reference.is_none(),
            OutputArg::Place(_) => false,
            OutputArg::OciArchives(_)
            | OutputArg::DockerArchives(_)
            | OutputArg::Repositories(_) => true,
        };
        if !has_room {
            let hint = "write -o oci:DIR for one layout of all, -o oci-archive:DIR/ or no -o for an archive each, \
                        or -o docker://HOST/PREFIX/ for a repository each";
            return refuse(&format!("-o {output}"), hint);
        }
    }
    Ok(())
}

/// Where an image goes, its own place among those that are for many.
fn outputs(typed: &[OutputArg], request: &BuildRequest) -> Result<Vec<ImageSource>, Failure> {
    let mut places = Vec::new();
    for output in typed {
        match output {
            OutputArg::Place(place) => places.push(place.clone()),
            OutputArg::OciArchives(folder) => places.push(ImageSource::OciArchive {
                file: folder.join(archive_name(request)?),
                reference: None,
            }),
            OutputArg::DockerArchives(folder) => places.push(ImageSource::DockerArchive {
                file: folder.join(archive_name(request)?),
                reference: None,
            }),
            OutputArg::Repositories(prefix) => places.extend(repositories(prefix, request)?),
        }
    }
    Ok(places)
}

/// The name of the archive that an image has without any `-o`.
fn archive_name(request: &BuildRequest) -> Result<PathBuf, Failure> {
    let names = corridor::names(request)?;
    let place = request.default_output(&names);
    Ok(place.path().map(Path::to_owned).unwrap_or_default())
}

/// An image in the place of a registry: under all of its tags, in one repository for each of its own.
fn repositories(prefix: &Prefix, request: &BuildRequest) -> Result<Vec<ImageSource>, Failure> {
    let names = corridor::names(request)?;
    let mut found: Vec<(Reference, Vec<ImageSource>)> = Vec::new();
    for name in &names {
        let repository = prefix.repository_of(name).map_err(|error| {
            let headline = format!("{name} has no place in the registry: {}", error.message);
            Failure::new(Blame::CommandLine, headline)
        })?;
        let tagged = name.tag().map(|tag| repository.with_tag(tag));
        let tagged = tagged.and_then(Result::ok).unwrap_or(repository.clone());
        let tagged = ImageSource::Registry(tagged);
        match found.iter_mut().find(|(known, _)| *known == repository) {
            Some((_, all)) => all.push(tagged),
            None => found.push((repository, vec![tagged])),
        }
    }
    match &mut found[..] {
        [] => {
            let headline = format!("{} names no image", request.spec_file.display());
            Err(Failure::new(Blame::Input, headline)
                .hint("a place in a registry needs a name: write `image:` in the spec"))
        }
        // Without a tag it is pushed under all of them at once.
        [(only, _)] => Ok(vec![ImageSource::Registry(only.clone())]),
        _ => Ok(found.into_iter().flat_map(|(_, all)| all).collect()),
    }
}

/// The full names that a member's tags mean.
fn names_of_tags(
    tags: &[(Arc<SourceText>, Spanned<MemberTag>)],
    request: &BuildRequest,
) -> Result<Vec<Reference>, Failure> {
    let mut names = Vec::new();
    for (source, tag) in tags {
        let wrong = |message: String, help: &str| {
            Diagnostics::from(Diagnostic::new(source, tag.span, message).help(help))
        };
        names.push(match &tag.value {
            MemberTag::Name(name) => name.clone(),
            MemberTag::Tag(tag) => {
                let spec = corridor::spec(request)?;
                let Some(image) = spec.image else {
                    let message = format!(
                        "the spec names no image that could have the tag {:?}",
                        tag.as_str()
                    );
                    return Err(wrong(message, "write a full name: NAME:TAG").into());
                };
                let named = image.with_tag(tag.as_str());
                named.map_err(|error| wrong(error.to_string(), "write another tag"))?
            }
        });
    }
    Ok(names)
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

/// A spec's text.
pub(crate) fn read_spec(file: &Path) -> Result<Arc<SourceText>, Failure> {
    read_source(file, "the spec")
}

/// The text of a file that is called `what`.
pub(crate) fn read_source(file: &Path, what: &str) -> Result<Arc<SourceText>, Failure> {
    let name = file.display().to_string();
    let bytes = read_at_most(file, MOST_TEXT).map_err(|error| {
        let blame = match error.kind() {
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::IsADirectory
            | std::io::ErrorKind::FileTooLarge => Blame::Input,
            _ => Blame::System,
        };
        Failure::new(blame, format!("cannot read {what} {name}")).because(&error)
    })?;
    Ok(Arc::new(SourceText::from_bytes(name, bytes)?))
}
