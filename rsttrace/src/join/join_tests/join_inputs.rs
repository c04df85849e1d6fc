//! Hosts and inputs: whose addresses are known, and what is read twice.

use super::*;

#[test]
fn the_peer_is_no_host_without_its_address() {
    let client =
        client().marks(10, 30).received(AT_MS, (&format!("{CLIENT}:50000"), "10.8.0.1:443"), FORGED).marks(40, 60);
    let joined_all = joined(&[&client, &server().marks(10, 60)]);
    is_open(&single(&joined_all), "no input is of the host with the address 10.8.0.1");
    assert_eq!(joined_all.summary(std::iter::empty()).with_others, 1);
    // Two hosts with one address: either may be meant.
    let twin = server_with(|header| {
        header["machine_id"] = json!("another");
        header["host"] = json!("twin");
    });
    let mut twin = twin.marks(10, 60);
    twin.lines.iter_mut().for_each(|line| {
        line["host"] = json!("twin");
        if line["type"] == "reset" {
            line["reset"]["seq"] = json!(1);
        }
    });
    let pairs = all(&joined(&[&deceived(), &server().marks(10, 60), &twin]));
    let pair = pairs.into_iter().find(|pair| pair.reset.seq == Some(FORGED.0)).expect("it is there");
    is_open(&pair, "have the address");
}

#[test]
fn inputs_of_one_host_are_refused_and_copies_count_once() {
    let mut joiner = Joiner::default();
    client().give(&mut joiner, "a");
    client().give(&mut joiner, "b");
    assert_eq!(joiner.finish().err(), Some(JoinError::OneHost("client".to_owned())));
    assert_eq!(Joiner::default().finish().err(), Some(JoinError::NoHost));
    let twice = joined(&[&client(), &server(), &client(), &server()]);
    assert_eq!(all(&twice).len(), 4);
    // Records without headers are of the host with their name.
    let mut bare = client();
    bare.lines.remove(0);
    assert_eq!(all(&joined(&[&client(), &bare, &server()])).len(), 4);
}

#[test]
fn resets_within_a_host_are_no_pairs() {
    let inside = client().sent(5_000, ("127.0.0.1:1", "127.0.0.1:2"), (7, Some(8)));
    let joined = joined(&[&inside, &server()]);
    assert_eq!((all(&joined).len(), joined.summary(std::iter::empty()).within_hosts), (4, 1));
}
