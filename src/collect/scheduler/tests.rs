//! The scheduler in virtual time, against a scripted daemon: no thread, no libvirt, no waiting.

mod agents;
mod busy;
mod daemon;
mod definitions;
mod domains;
mod guests;
mod hooks;
mod hooks_many;
mod jobs;
mod probes;
mod replies;
mod runs;
mod scrape;
mod script;
mod watching;
mod world;

use scrape::{Scrape, everything, only};
use world::World;
