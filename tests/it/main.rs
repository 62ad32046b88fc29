//! One binary of integration tests; one line of purpose per module.

mod architecture; // the rules of the house, kept by reading the sources
mod cli_porch; // the compiled program: exit codes, streams, what people are told
mod copy_like_docker; // `copy` makes the trees that BuildKit and buildah make
mod outputs; // every output before every loader; hostile layouts and archives before us
mod peers; // the foreign tools and hand-made images work, before they judge ours
mod spec_errors; // every wrong spec gives the diagnostics of its golden
mod store; // the store under kills, several processes, a full disk, and racing changes
mod support; // sandbox, trees as text, listings, images by hand, foreign tools
