//! Upgrades through the built programs.
//!
//! | file | what |
//! | --- | --- |
//! | `world` | the backend, the agent and the releases |
//! | `system` | what starts the agent again, and its processes |
//! | `ends` | how an upgrade ends |
//! | `ill` | versions that are the real agent with one thing wrong, and a machine that is lied to |
//! | `gateway` | what stands between agent and backend, and can fail |
//! | `whole` | the usual ways |
//! | `trials` | versions that are not well, each in its way |
//! | `reach` | the backend that cannot be reached, or has errors of its own |
//! | `restarts` | the watcher killed, the machine restarted, the clock set |
//! | `orders` | the same order again, a second one, an export meanwhile |
//! | `packages` | the older form of package, and `.zip` |
//! | `state` | versions between which the state has another schema |
//! | `state_faults` | the same, where somebody or something interferes |
//! | `state_sweep` | a migration, killed and given errors at each of its calls |
//! | `stops` | an upgrade that is cancelled, and a service that is stopped, while the version is armed |
//! | `sweep` | the whole action, killed and given errors at each of its calls |
//! | `changes` | files of a version, or of the journal, that change behind the agent's back |
//! | `no_way_back` | the version before is gone or damaged |
//! | `back` | people who go to the version before, and several places of releases |

mod back;
mod changes;
mod ends;
mod gateway;
mod ill;
mod no_way_back;
mod orders;
mod packages;
mod reach;
mod restarts;
// A program that is built for use plays no schema.
#[cfg(debug_assertions)]
mod state;
#[cfg(debug_assertions)]
mod state_faults;
#[cfg(debug_assertions)]
mod state_sweep;
mod stops;
mod sweep;
mod system;
mod trials;
mod whole;
mod world;
