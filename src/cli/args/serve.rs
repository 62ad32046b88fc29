//! Arguments of `boxwright serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use clap::{Args, ValueHint};

use boxwright::spec::ValueError;

use crate::cli::args::StoreArgs;

/// Serve images to whoever pulls, as a read-only registry
///
/// kind, k3s, containerd, podman, skopeo and builds pull from it without TLS. The image
/// docker.io/acme/app:1.4.0 is served as acme/app:1.4.0; one that has only a tag is called after
/// its directory or archive. What a build adds meanwhile is served at once. Without SOURCE it is
/// the store: the bases that builds have pulled.
///
/// Standard output says where it listens. Ctrl-C or SIGTERM ends it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright serve oci:layout
  boxwright serve auth.tar --listen 127.0.0.1:0
      A free port; standard output says which.
  podman pull --tls-verify=false 127.0.0.1:5000/acme/app:1.4.0
  skopeo inspect --tls-verify=false docker://127.0.0.1:5000/acme/app:1.4.0
  ctr images pull --plain-http 127.0.0.1:5000/acme/app:1.4.0")]
pub(crate) struct ServeArgs {
    /// oci:DIR, oci-archive:FILE, just the path of one, or the directory of a store
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub(crate) source: Option<String>,
    /// Where to listen; port 0 takes a free one
    ///
    /// Another address than this machine's own lets everybody who reaches it pull: nobody is asked
    /// for a password, and nothing is encrypted.
    #[arg(long, value_name = "[ADDRESS:]PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `ADDRESS:PORT`, or `PORT` for this machine alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

impl FromStr for Listen {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Listen, ValueError> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = text.strip_prefix("localhost:").unwrap_or(text);
        if let Ok(port) = port.parse::<u16>() {
            return Ok(Listen(SocketAddr::new(loopback, port)));
        }
        text.parse().map(Listen).map_err(|_| {
            // To other programs this means every address, which must be said in full here.
            let help = match text.strip_prefix(':') {
                Some(port) => format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} for everybody"),
                None => "write 127.0.0.1:5000, [::1]:5000 or just the port".to_owned(),
            };
            ValueError::new(format!("{text:?} is no address with a port")).help(help)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_this_machine_unless_they_say_otherwise() {
        let listen = |text: &str| text.parse::<Listen>().map(|listen| listen.0.to_string());
        for (text, address) in [
            ("5001", "127.0.0.1:5001"),
            ("localhost:0", "127.0.0.1:0"),
            ("127.0.0.2:1", "127.0.0.2:1"),
            ("[::1]:80", "[::1]:80"),
            ("0.0.0.0:5000", "0.0.0.0:5000"),
        ] {
            assert_eq!(listen(text).unwrap(), address);
        }
        for wrong in [
            "",
            ":5000",
            "127.0.0.1",
            "host:5000",
            "99999",
            "::1",
            "localhost:x",
        ] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }
}
