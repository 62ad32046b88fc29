//! One binary of integration tests; one line of purpose per module.

mod acceptance; // images are measured, started, asked and judged
mod add; // files of the web, known by their digests
mod architecture; // the rules of the house, kept by reading the sources
mod bench; // the caching benchmark measures whole builds and leaves files alone
mod build_hostile; // hostile bases are refused or contained
mod build_killed; // killed builds and full disks leave nothing torn
mod build_loaders; // contexts become images that every loader takes
mod build_never_stale; // whatever is edited, the next build is right
mod build_same_bytes; // nothing around a build shows in its bytes
mod build_semantics; // a golden of the whole language; what is shared and what is kept
mod build_unchanged; // what is the same is not evaluated, and nothing else passes for it
mod cache_mounts; // caches of commands leave and come in one file, and are counted
mod cli_porch; // the compiled program: exit codes, streams, what people are told
mod compose; // the services of compose files are built, named, locked, and run by podman-compose
mod copy_like_buildkit; // copy makes the trees that BuildKit makes
mod extends; // stages of other spec files: the same for all, and never stale
mod index; // images of one platform each become one of several
mod lock; // the lock, what it pins, and builds without network
mod outputs; // every output before every loader; hostile layouts and archives before us
mod peers; // the foreign tools and hand-made images work, before they judge ours
mod profiles; // one spec for several environments, and nothing of one in another
mod recipes; // the recipes for CI of ci/, run as their CI would
mod registry_pull; // bases from registries: every kind of door, every kind of fault
mod registry_push; // images to registries: what is sent, what is not, what goes on after a kill
mod run_containers; // builds with commands inside docker's and podman's containers
mod run_real; // apt, npm, pip and gcc by a plain user; the images start and answer
mod run_steps; // commands in specs: what they see, when they run again, what stays
mod run_stopped; // commands that are ended: no process, mount or file of theirs is left
mod run_tiers; // commands in every tier, as root and as a user made for it
mod serve; // the read-only registry: the spec, real clients, and those that mean no good
mod services; // images started in the own sandbox, as root and as a user made for it, held against podman
mod shared_cache; // results of other machines by way of a registry, lying ones among them
mod spec_errors; // every wrong spec gives the diagnostics of its golden
mod store; // the store under kills, several processes, a full disk, and racing changes
mod store_restored; // stores that a CI has saved and restored, losing what such means lose
mod support; // sandbox, trees as text, listings, images by hand, foreign tools
mod systems; // the eleven services of specs/systems, built, started and judged
mod workspace; // several images in one process: what they share is made once
