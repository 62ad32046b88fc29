//! `boxwright serve`: a read-only registry, until it is told to end.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use boxwright::spec::ImageSource;
use boxwright::store::Store;
use boxwright::transport::TransportError;
use boxwright::transport::serve::{ServeSettings, Server, Shelf};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::args::ServeArgs;
use crate::cli::cache::refused;
use crate::cli::exit::{Blame, Failure};
use crate::cli::image_argument;
use crate::cli::settings::Environment;
use crate::cli::terminal::{BOLD, DIM, Terminal, YELLOW};

/// More images than these are counted, and not listed.
const MOST_LISTED: usize = 20;

/// Serves.
pub(crate) fn run(
    args: &ServeArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let (shelf, place) = match &args.source {
        Some(source) => (shelf(source)?, source.clone()),
        None => {
            let root = environment.store_root(args.store.store.as_deref())?;
            (of_store(&root)?, format!("the store {}", root.display()))
        }
    };
    let server = Server::bind(args.listen.0, shelf, ServeSettings::default());
    let server = server.map_err(cannot_listen)?;
    let stop = signals().map_err(|error| Failure::system("wait for signals", &error))?;
    let address = server.address();
    if !address.ip().is_loopback() {
        terminal.say(&warning(&format!(
            "everybody who reaches {address} can pull: there is no password and no TLS"
        )));
    }
    terminal.say(&listing(&server, &place));
    terminal.print(&format!("{address}\n"))?;
    let tell = |note: &str| terminal.say(&warning(note));
    server.run(stop, &tell).map_err(cannot_serve)
}

/// The images of an argument.
fn shelf(source: &str) -> Result<Shelf, Failure> {
    let path = Path::new(source);
    if path.join("records").is_dir() && path.join("oci-layout").is_file() {
        return of_store(path);
    }
    let (shelf, reference) = match image_argument::image(source)? {
        ImageSource::Layout { dir, reference } => {
            // Its name matters, and `.` has none.
            let named = dir.canonicalize().unwrap_or(dir);
            (Shelf::layout(&named), reference)
        }
        ImageSource::OciArchive { file, reference } => (Shelf::archive(&file), reference),
        ImageSource::DockerArchive { .. } | ImageSource::Registry(_) => {
            let headline = format!("{source} has no manifests that could be served");
            return Err(Failure::new(Blame::Input, headline)
                .hint("only oci:DIR, oci-archive:FILE and a store are served"));
        }
    };
    if reference.is_some() {
        let headline = "a layout is served as a whole";
        return Err(Failure::new(Blame::CommandLine, headline)
            .hint("leave out the name behind the path; who pulls, says which image"));
    }
    shelf.map_err(cannot_serve)
}

fn of_store(root: &Path) -> Result<Shelf, Failure> {
    let store = Store::open(root).map_err(refused)?;
    Shelf::store(store).map_err(cannot_serve)
}

/// What can be read from when a signal asks for the end. A second one asks for it at once.
fn signals() -> io::Result<UnixStream> {
    let (stop, caught) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, caught.try_clone()?)?;
    }
    Ok(stop)
}

/// What is served under which name.
fn listing(server: &Server, place: &str) -> String {
    let images = server.shelf().images();
    let (count, address) = (images.len(), server.address());
    let names = if count == 1 { "name" } else { "names" };
    let mut text = format!("serving {count} {names} of {place}; Ctrl-C ends it\n");
    for (repository, tag, digest) in images.iter().take(MOST_LISTED) {
        let short = digest.short();
        text.push_str(&format!(
            "  {BOLD}{address}/{repository}:{tag}{BOLD:#}  {DIM}{short}{DIM:#}\n"
        ));
    }
    if count > MOST_LISTED {
        text.push_str(&format!("  and {} more\n", count - MOST_LISTED));
    }
    text
}

fn warning(text: &str) -> String {
    format!("{YELLOW}warning:{YELLOW:#} {text}\n")
}

fn cannot_listen(error: TransportError) -> Failure {
    cannot_serve(error)
        .hint("choose another place with --listen ADDRESS:PORT; port 0 is a free one")
}

fn cannot_serve(error: TransportError) -> Failure {
    let blame = match &error {
        TransportError::Io { .. } | TransportError::Listen { .. } => Blame::System,
        _ => Blame::Input,
    };
    Failure::failed(blame, &error)
}
