//! `boxwright verify`: the acceptance run. Builds, measures, starts, asks and stops; what it means
//! is judged in the study.
//!
//! Everything happens in a scratch folder with stores of its own. What starts the image stands
//! behind the trait [`runner::Runner`]: our own sandbox, podman or docker.

use std::fs;
use std::path::{Path, PathBuf};

use boxwright::build::BuildRequest;
use boxwright::explain::acceptance::{html, judge, junit};
use boxwright::explain::{Acceptance, Allowed, Code, Demands, Figures, Overview, RunFigures};
use boxwright::oci::{Platform, Reference};
use boxwright::spec::BuildSpec;

use crate::cli::args::{RequireArg, RunnerArg, SkipArg, VerifyArgs};
use crate::cli::corridor;
use crate::cli::exit::{Blame, Failure};
use crate::cli::settings::{Environment, Member, scratch_folder};
use crate::cli::table::json_text;
use crate::cli::terminal::Terminal;
use crate::cli::verify::measure::{Built, Rebuild};
use crate::cli::verify::runner::{Chosen, Reason, Runner};
use crate::cli::verify::service::Service;

mod asking;
mod engine;
mod interrupt;
mod measure;
mod own;
mod podman;
mod runner;
mod service;
mod shown;
mod signals;

/// Verifies each spec; the judgements go to standard output.
pub(crate) fn run(
    args: &VerifyArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let scratch = scratch_folder(args.scratch.as_deref())?;
    // What is wrong with any of the specs is told before the first is built.
    let members = environment.members(args.workspace.as_deref(), &args.specs, &args.args)?;
    let subjects: Result<Vec<Subject>, Failure> = members
        .into_iter()
        .enumerate()
        .map(|(number, member)| {
            let place = scratch.path().join(number.to_string());
            Subject::read(args, environment, member, &place)
        })
        .collect();
    let subjects = subjects?;
    let reports = [&args.junit, &args.markdown, &args.html];
    let reports: Vec<&Path> = reports
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect();
    for subject in &subjects {
        corridor::may_be_written(&reports, &subject.request)?;
    }
    let runner = runner(args, scratch.path(), terminal)?;
    let run = Run {
        args,
        env: environment.variables(&args.env)?,
        runner,
        terminal,
    };
    let mut all = Vec::new();
    for subject in subjects {
        let found = run.verify(subject)?;
        if !args.json {
            terminal.print(&shown::table(&found, terminal.width()))?;
        }
        all.push(found);
    }
    write(args.junit.as_deref(), || junit(&all))?;
    let overview = Overview::of(&all);
    if let (false, [_, _, ..]) = (args.json, &all[..]) {
        terminal.print(&shown::overview(&overview, terminal.width()))?;
    }
    write(args.markdown.as_deref(), || overview.markdown())?;
    write(args.html.as_deref(), || html(&all))?;
    if args.json {
        terminal.print(&json_text(&all))?;
    }
    match all.iter().all(|one| one.passed) {
        true => Ok(()),
        false => Err(Failure::SaidAlready),
    }
}

fn write(file: Option<&Path>, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let Some(file) = file else {
        return Ok(());
    };
    fs::write(file, text())
        .map_err(|error| Failure::system(format!("write {}", file.display()), &error))
}

/// What starts images, or why nothing does; one that was asked for by name must work.
fn runner(
    args: &VerifyArgs,
    scratch: &Path,
    terminal: &Terminal,
) -> Result<Result<Box<dyn Runner>, Reason>, Failure> {
    let found = runner::choose(args, scratch);
    match (&found, args.runner) {
        (
            Ok(Chosen {
                runner,
                passed_over,
            }),
            _,
        ) => {
            let mut text = format!("Images are started with {}", runner.name());
            if !passed_over.is_empty() {
                text = format!("{text}, for: {}", passed_over.join("; "));
            }
            terminal.say(&format!("{text}.\n"));
        }
        (Err(why), RunnerArg::Auto | RunnerArg::None) => {
            terminal.say(&format!("No image is started: {why}.\n"));
        }
        (Err(why), RunnerArg::Sandbox | RunnerArg::Podman | RunnerArg::Docker) => {
            let headline = format!("cannot start images as asked: {why}");
            return Err(Failure::new(Blame::System, headline)
                .hint("with --runner auto the start is skipped where nothing works"));
        }
    }
    Ok(found.map(|chosen| chosen.runner))
}

/// One spec that is to be verified.
struct Subject {
    /// The member of a workspace, else the spec's file.
    name: String,
    request: BuildRequest,
    spec: BuildSpec,
    /// The image's first name, and what it runs on.
    image: String,
    platform: Platform,
    /// A folder of its own.
    place: PathBuf,
}

impl Subject {
    fn read(
        args: &VerifyArgs,
        environment: &Environment,
        member: Member,
        place: &Path,
    ) -> Result<Subject, Failure> {
        let name = match args.workspace {
            Some(_) => member.name.clone(),
            None => member.spec_file.display().to_string(),
        };
        let mut request = environment.verify_request(args, member, place)?;
        let spec = corridor::spec(&request)?;
        let host = Platform::host();
        let said = spec.platforms.iter().map(|one| one.value.clone());
        let said = match request.platforms.is_empty() {
            true => said.collect(),
            false => std::mem::take(&mut request.platforms),
        };
        let platform = match &said[..] {
            [first, ..] if !said.contains(&host) => first.clone(),
            _ => host,
        };
        request.platforms = vec![platform.clone()];
        let named = corridor::name(&request)?;
        request.names = vec![archive_name()?];
        Ok(Subject {
            name,
            image: named.unwrap_or_else(|| "an image without a name".to_owned()),
            request,
            spec,
            platform,
            place: place.to_owned(),
        })
    }
}

/// What archives are called whose images are started: nobody else's name.
fn archive_name() -> Result<Reference, Failure> {
    let name = format!("localhost/boxwright-verify-{}:verify", std::process::id());
    name.parse()
        .map_err(|error| Failure::failed(Blame::Bug, &error))
}

struct Run<'a> {
    args: &'a VerifyArgs,
    /// Variables for containers.
    env: Vec<(String, String)>,
    runner: Result<Box<dyn Runner>, Reason>,
    terminal: &'a Terminal,
}

impl Run<'_> {
    fn verify(&self, subject: Subject) -> Result<Acceptance, Failure> {
        fs::create_dir_all(&subject.place)
            .map_err(|error| Failure::system("make a scratch folder", &error))?;
        let allowed = Allowed::from_iter(self.args.allow.iter().copied());
        let rebuild = match self.args.skip.contains(&SkipArg::Rebuild) {
            true => Rebuild::LeftOut,
            false => Rebuild::Wanted,
        };
        let built = measure::build(&subject.request, rebuild, allowed, self.terminal);
        let (build, run) = match built {
            Ok(built) => {
                let run = self.start(&subject, &built)?;
                (Ok(built.figures), run)
            }
            Err(why) => (Err(why), Err("there is no image".to_owned())),
        };
        measure::clear(&subject.place)?;
        let figures = Figures {
            spec: subject.name,
            image: subject.image,
            platform: subject.platform.to_string(),
            runner: self.runner.as_ref().ok().map(|one| one.name().to_owned()),
            build,
            run,
        };
        let demands = Demands {
            start: self.args.require.contains(&RequireArg::Start),
        };
        Ok(judge(figures, &subject.spec.budget, demands))
    }

    fn start(
        &self,
        subject: &Subject,
        built: &Built,
    ) -> Result<Result<RunFigures, Reason>, Failure> {
        let runner = match &self.runner {
            Ok(runner) => runner,
            Err(why) => return Ok(Err(why.clone())),
        };
        let host = Platform::host();
        if subject.platform != host {
            let platform = &subject.platform;
            return Ok(Err(format!("it is for {platform}, and this is {host}")));
        }
        let service = Service {
            runner: &**runner,
            archive: &built.archive,
            name: &built.name,
            config: &built.config,
            budget: &subject.spec.budget,
            args: self.args,
            env: &self.env,
            terminal: self.terminal,
            root_is_allowed: self.args.allow.contains(&Code::RootUser),
        };
        service.measure().map(Ok)
    }
}
