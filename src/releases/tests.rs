//! Real repositories, made with the release side in a folder, and what an agent says of them and of what attackers make of
//! them.

mod attacks;
mod endless;
mod files;
mod rotation;
mod signing;
mod world;

/// Runs every group of attacks, and says how many there were.
#[tokio::test]
async fn every_attack_is_refused_with_its_error_and_nothing_is_remembered_of_it() {
    let groups = [
        ("rollback", attacks::rollback().await),
        ("freeze", attacks::freeze().await),
        ("mix-and-match", attacks::mix_and_match().await),
        ("wrong key, below threshold", attacks::unsigned().await),
        ("garbage", attacks::garbage().await),
        ("missing, no way, slow", attacks::missing().await),
        ("endless data", endless::metadata().await + endless::targets().await),
        ("files", files::tampered().await + files::listed_with_another_length().await),
        ("labels", files::mislabelled().await),
        ("roots", rotation::attacks().await),
    ];
    for (group, cases) in groups {
        println!("{cases:3} {group}");
    }
    let cases: usize = groups.iter().map(|(_, cases)| cases).sum();
    println!("{cases:3} attacks refused");
    assert!(cases >= 60, "{cases}");
}
