//! Compose files: found, read, and what they want to be built made into members.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxwright::build::SPEC_NAME;
use boxwright::spec::compose::dotenv;
use boxwright::spec::{
    ComposeInputs, ComposedImage, Composition, Diagnostics, SecretPlace, SourceText, compose,
};

use crate::cli::args::BuildArgs;
use crate::cli::exit::{Blame, Failure};
use crate::cli::settings::requests::Member;
use crate::cli::settings::{Environment, MOST_TEXT, read_at_most};

/// The names of a compose file in its folder, the first that is there counts; the same for a file
/// that goes over it. Both orders are compose's.
const COMPOSE_NAMES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];
const OVERRIDE_NAMES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// Variables of a `.env` file.
type Variables = BTreeMap<String, String>;

impl Environment {
    /// The members that compose files name; `notes` takes what a person should know of them.
    pub(crate) fn composed(
        &self,
        args: &BuildArgs,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Member>, Failure> {
        let (composition, beside, inputs) = self.composition(args)?;
        let Composition { images, .. } = composition;
        notes.extend(composition.notes);
        let mut missing = Diagnostics::new();
        let mut members = Vec::new();
        for image in images {
            let mut spec_file = image.spec.path.clone();
            if spec_file.is_dir() {
                spec_file = match spec_file == Path::new(".") {
                    true => PathBuf::from(SPEC_NAME),
                    false => spec_file.join(SPEC_NAME),
                };
            }
            match spec_file.exists() {
                true => {
                    let mut member = self.member(image, spec_file, &beside)?;
                    member.inputs.extend(inputs.iter().cloned());
                    members.push(member);
                }
                false => missing.push(image.spec.missing),
            }
        }
        Ok(missing.finish(members)?)
    }

    /// What compose files want, the variables of the `.env` beside them, and the paths of all these.
    fn composition(
        &self,
        args: &BuildArgs,
    ) -> Result<(Composition, Variables, Vec<PathBuf>), Failure> {
        let mut files = Vec::new();
        for typed in &args.compose.files {
            files.extend(files_at(typed)?);
        }
        let first = files.first().expect("clap wants a value");
        let folder = first.parent().unwrap_or(Path::new("")).to_owned();
        let real = fs::canonicalize(match folder == Path::new("") {
            true => Path::new("."),
            false => &folder,
        });
        let real = real.map_err(|error| {
            Failure::system(
                format_args!("find the folder of {}", first.display()),
                &error,
            )
        })?;
        let texts = files.iter().map(|file| text_of(file));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let environment = |name: &str| (self.variable)(name)?.into_string().ok();
        let beside = self.dotenv(&folder.join(".env"), &environment)?;
        let services = args
            .spec
            .specs
            .iter()
            .filter(|typed| *typed != Path::new("."));
        let services: Vec<String> = services
            .map(|typed| typed.to_string_lossy().into_owned())
            .collect();
        let name = real.file_name().unwrap_or_default().to_string_lossy();
        let composition = compose(&ComposeInputs {
            files: &texts,
            folder: &folder,
            folder_name: &name,
            project: args.compose.project_name.as_deref(),
            variables: &|name| environment(name).or_else(|| beside.get(name).cloned()),
            wanted: &services,
        })?;
        files.push(folder.join(".env"));
        Ok((composition, beside, files))
    }

    /// The variables of the `.env` beside the compose file, if there is one.
    fn dotenv(
        &self,
        file: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Variables, Failure> {
        match file.is_file() {
            true => Ok(dotenv(&text_of(file)?, environment)?),
            false => Ok(Variables::new()),
        }
    }

    /// An image as a member, named after its services.
    fn member(
        &self,
        image: ComposedImage,
        spec_file: PathBuf,
        beside: &Variables,
    ) -> Result<Member, Failure> {
        let mut secrets = Vec::new();
        let mut inputs = Vec::new();
        for (id, place) in image.secrets {
            if let SecretPlace::File(path) = &place {
                inputs.push(path.clone());
            }
            let bytes = match place {
                SecretPlace::File(path) => read_at_most(&path, MOST_TEXT).map_err(|error| {
                    let headline = format!("cannot read the secret {}", path.display());
                    Failure::new(Blame::Input, headline).because(&error)
                })?,
                SecretPlace::Variable(name) => match ((self.variable)(&name), beside.get(&name)) {
                    (None, Some(value)) => value.clone().into_bytes(),
                    _ => self.secret_variable(&name)?,
                },
            };
            secrets.push((id, bytes));
        }
        Ok(Member {
            name: image.services.join(", "),
            target: image.target,
            profile: image.profile,
            args: image.args,
            contexts: image.contexts,
            names: image.names,
            services: image.services,
            platforms: image.platforms,
            secrets,
            agents: image.agents,
            is_uncached: image.no_cache,
            inputs,
            ..Member::of_spec(spec_file)
        })
    }
}

/// The compose files that a path names: itself, or those in that folder.
fn files_at(typed: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !typed.is_dir() {
        return Ok(vec![typed.to_owned()]);
    }
    let folder = match typed == Path::new(".") {
        true => Path::new(""),
        false => typed,
    };
    let first = |names: [&str; 4]| {
        let mut files = names.iter().map(|name| folder.join(name));
        files.find(|file| file.is_file())
    };
    let Some(file) = first(COMPOSE_NAMES) else {
        let headline = format!("there is no compose file in {}", typed.display());
        let hint = format!(
            "it would be called {}; name another: --compose FILE",
            COMPOSE_NAMES.join(", ")
        );
        return Err(Failure::new(Blame::Input, headline).hint(hint));
    };
    Ok([Some(file), first(OVERRIDE_NAMES)]
        .into_iter()
        .flatten()
        .collect())
}

fn text_of(file: &Path) -> Result<Arc<SourceText>, Failure> {
    let name = file.display().to_string();
    let bytes = read_at_most(file, MOST_TEXT).map_err(|error| {
        let blame = match error.kind() {
            ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::FileTooLarge => Blame::Input,
            _ => Blame::System,
        };
        Failure::new(blame, format!("cannot read {name}")).because(&error)
    })?;
    Ok(Arc::new(SourceText::from_bytes(name, bytes)?))
}
