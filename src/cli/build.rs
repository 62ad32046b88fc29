//! `boxwright build`: a spec becomes an image, several become several side by side.

use std::fmt::Write as _;
use std::path::Path;

use boxwright::build::{BuildReport, BuildRequest, Difference, Event, Observer as _};
use boxwright::oci::Reference;
use boxwright::spec::ImageSource;
use boxwright::spec::compose::{Pin, PinPull};

use crate::cli::args::{BuildArgs, OutputArg};
use crate::cli::cache;
use crate::cli::corridor;
use crate::cli::exit::{Blame, Failure};
use crate::cli::progress::Progress;
use crate::cli::progress::line::printable;
use crate::cli::settings::{Asked, Environment, ProgressStyle, scratch_folder};
use crate::cli::summary;
use crate::cli::table::json_text;
use crate::cli::terminal::{BOLD_RED, GREEN, Terminal};

mod places;
mod several;

/// Builds all that is asked for, or with `--dry-run` shows the plans.
pub(crate) fn run(
    args: &BuildArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let mut asked = environment.build_requests(args)?;
    if let Some(file) = &args.compose.compose_lock {
        corridor::may_be_pins(file)?;
        keeps_digests(&args.result.outputs)?;
    }
    if !asked.notes.is_empty() {
        let style = ProgressStyle::decide(args.report.progress, terminal);
        let progress = Progress::new(style, terminal);
        let notes = asked.notes.iter();
        notes.for_each(|text| progress.event(Event::Note { text }));
        progress.finish();
    }
    let reports = match &asked.requests[..] {
        [request] if !asked.is_group => one(request, args, terminal)?,
        _ => {
            places::leave_out_outputs(&mut asked);
            several::build(&asked, args, terminal)?
        }
    };
    match &args.compose.compose_lock {
        Some(file) => pin(&asked, &reports, file, terminal),
        None => Ok(()),
    }
}

/// An image that is only written as Docker saves it has another digest once it is loaded.
fn keeps_digests(outputs: &[OutputArg]) -> Result<(), Failure> {
    let is_docker = |output: &OutputArg| {
        matches!(
            output,
            OutputArg::Place(ImageSource::DockerArchive { .. }) | OutputArg::DockerArchives(_)
        )
    };
    if outputs.is_empty() || !outputs.iter().all(is_docker) {
        return Ok(());
    }
    let headline = "--compose-lock names images by digest, which a docker-archive does not keep";
    Err(Failure::new(Blame::CommandLine, headline)
        .hint("write -o oci-archive:DIR/, or push: -o docker://HOST/PREFIX/"))
}

/// Writes which images the services of compose files shall run: those of this build.
fn pin(
    asked: &Asked,
    reports: &[BuildReport],
    file: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let mut pins = Vec::new();
    for (services, report) in asked.services.iter().zip(reports) {
        let pushed = report
            .outputs
            .iter()
            .filter_map(|output| output.push.as_ref());
        let pushed = pushed.map(|line| line.repository.as_str()).next();
        let name = pushed.or(report.names.first().map(String::as_str));
        let name = name.and_then(|name| name.parse::<Reference>().ok());
        let name = name.expect("what compose builds has a name");
        pins.extend(services.iter().map(|service| Pin {
            service: service.clone(),
            name: name.clone(),
            digest: report.manifest,
            pull: match pushed {
                Some(_) => PinPull::Registry,
                None => PinPull::Never,
            },
        }));
    }
    let shown = file.display();
    let state = match corridor::write_pins(&pins, file)? {
        true => format!("wrote {shown}"),
        false => format!("{shown} is up to date"),
    };
    terminal.say(&format!("{}\n", printable(&state)));
    Ok(())
}

fn one(
    request: &BuildRequest,
    args: &BuildArgs,
    terminal: &Terminal,
) -> Result<Vec<BuildReport>, Failure> {
    if args.how.dry_run {
        let plan = corridor::plan(request)?;
        match args.how.json {
            true => terminal.print(&json_text(&plan.json))?,
            false => terminal.print(&plan.text)?,
        }
        return Ok(Vec::new());
    }
    places::make_folders(&args.result.outputs)?;
    let style = ProgressStyle::decide(args.report.progress, terminal);
    let progress = Progress::new(style, terminal);
    let result = match args.how.verify {
        true => verified(request, &progress).map(|(report, same)| (report, Some(same))),
        false => corridor::build(request, &progress).map(|report| (report, None)),
    };
    cache::trim(&request.store_root);
    let took = progress.finish();
    let (report, same) = result?;
    let is_told = matches!(style, ProgressStyle::Live | ProgressStyle::Plain);
    if is_told {
        terminal.say(&summary::render(&report, took, terminal.width()));
    }
    summary::print(args.report.print, &[report.manifest], &report, terminal)?;
    match same {
        Some(Err(differences)) => {
            terminal.say(&differences);
            return Err(Failure::SaidAlready);
        }
        Some(Ok(())) if is_told => {
            terminal.say(&format!(
                "\n{GREEN}Verified{GREEN:#}: both builds gave this image.\n"
            ));
        }
        _ => {}
    }
    Ok(vec![report])
}

/// Builds twice; what differs comes as text.
fn verified(
    request: &BuildRequest,
    progress: &Progress,
) -> Result<(BuildReport, Result<(), String>), Failure> {
    let scratch = scratch_folder(None)?;
    let verification = corridor::verify(request, scratch.path(), progress)?;
    let store = scratch.path().join("store");
    // Trees of commands may belong to ids of a namespace, which a plain removal cannot take away.
    cache::swept(&store)?;
    if verification.differences.is_empty() {
        return Ok((verification.report, Ok(())));
    }
    let mut text = format!(
        "{BOLD_RED}error{BOLD_RED:#}: the second build gave another image, {}\n",
        verification.again
    );
    for Difference { layer, path, what } in &verification.differences {
        let _ = writeln!(
            text,
            "  {} in {}: {what}",
            printable(path),
            printable(layer)
        );
    }
    Ok((verification.report, Err(text)))
}
