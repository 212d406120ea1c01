"""What went wrong in other tools that move files, row for row: our defence, and the tests that fail without it.

docs/threat-model.md shows this table; `test_rows.py` compares the two and looks for each test.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROWS", "Row", "table"]


@dataclass(frozen=True, slots=True)
class Row:
    """One class of attack that worked against somebody."""

    known_from: str
    attack: str
    defence: str
    tests: tuple[str, ...]
    naive: tuple[str, ...] = ()
    """Tests that take the defence away, or do it the simple way, and expect the attack to be seen."""


ROWS = (
    Row(
        "CVE-2023-43621, croc#598",
        "The code stands in the list of processes",
        "`receive` asks for it, or reads `TALLOW_CODE` or standard input; a code is spent by its first use",
        (
            "hostile/test_secrets.py::test_a_code_stands_in_no_argument_no_diagnosis_and_no_file",
            "hostile/test_secrets.py::test_a_wrong_code_and_a_crash_show_no_word",
        ),
        ("hostile/test_secrets.py::test_this_check_sees_a_code_that_was_given_as_an_argument",),
    ),
    Row(
        "CVE-2023-43617, croc#596",
        "The relay learns part of the secret from the room's name",
        "the room comes of the number alone, the words go into CPace alone",
        (
            "protocol/core/test_code.py::test_the_room_depends_on_the_nameplate_alone",
            "protocol/core/test_handshake_attacks.py::test_changing_a_word_changes_the_share_and_nothing_else_of_hello",
            "e2e/test_what_the_relay_sees.py::test_a_changed_word_changes_no_byte_of_plain_signaling",
        ),
    ),
    Row(
        "CVE-2021-31603, croc#371",
        "A broken PAKE gives everything away",
        "CPace with the draft's own vectors, one group, low-order points end the attempt",
        (
            "crypto/test_cpace.py::test_both_sides_reach_the_drafts_session_key",
            "crypto/test_cpace.py::test_a_low_order_share_aborts_either_role",
            "crypto/test_cpace.py::test_any_difference_between_the_sides_gives_other_keys",
        ),
    ),
    Row(
        "croc before `pakekey` v2",
        "Messages reflected, replayed, or mixed between roles and sessions; the hybrid half left out",
        "roles, room, both messages and both KEM halves are in the transcript that every key hangs on",
        (
            "protocol/core/test_handshake_attacks.py::test_a_hello_reflected_to_its_sender_is_no_reply",
            "protocol/core/test_handshake_attacks.py::test_two_senders_cannot_be_joined_to_each_other",
            "protocol/core/test_handshake_attacks.py::test_frames_of_two_sessions_of_one_code_do_not_mix",
            "protocol/core/test_handshake_attacks.py::test_a_replayed_reply_is_of_no_use_to_a_new_hello",
            "protocol/core/test_handshake_attacks.py::test_a_capability_removed_on_the_way_is_noticed",
            "crypto/test_kem.py::test_a_missing_half_is_refused",
        ),
    ),
    Row(
        "CVE-2023-43618, croc#597",
        "Addresses of the local network, names or sizes are sent in the clear",
        "candidates travel in the sealed session only, and with `--relay-only` not at all",
        (
            "e2e/test_what_the_relay_sees.py::test_a_recording_behind_tls_holds_no_secret_and_no_name",
            "e2e/test_path_options.py::test_relay_only_on_either_side_keeps_all_data_on_the_relay",
            "protocol/session/test_relay_only.py::test_a_direct_connection_that_comes_after_it_is_refused",
        ),
        ("e2e/test_what_the_relay_sees.py::test_a_signaling_message_would_not_count_as_opaque",),
    ),
    Row(
        "CVE-2023-43620, magic-wormhole 0.13",
        "A name or text drives the terminal",
        "what a peer says is `PeerText`, stripped wherever it is shown; JSON escapes it",
        (
            "hostile/test_terminal.py::test_no_name_or_text_drives_the_screen_of_a_person",
            "hostile/test_terminal.py::test_every_event_for_a_program_is_one_line_of_plain_json",
            "hostile/test_terminal.py::test_no_name_drives_the_question_about_what_is_taken",
            "hostile/test_terminal.py::test_a_refused_name_is_quoted_in_its_error_without_what_it_holds",
        ),
        ("hostile/test_terminal.py::test_these_checks_see_a_name_that_is_shown_as_it_came",),
    ),
    Row(
        "CVE-2023-43619, croc#593",
        "A dangerous file hides in a long offer",
        "hidden names and programs are called out, also where the list is shortened; each entry is listed or counted",
        (
            "cli/test_offer.py::test_hidden_names_programs_and_links_are_called_out",
            "cli/test_offer.py::test_a_long_offer_is_counted_by_folder_and_still_calls_out",
            "cli/test_offer.py::test_every_entry_is_listed_or_counted",
        ),
    ),
    Row(
        "CVE-2023-43616, croc#594",
        "An archive is unpacked outside of its folder, or over what stands",
        "no archive travels, and no package can read one; nothing is replaced without a policy",
        (
            "hostile/test_what_is_not_there.py::test_no_module_reads_an_archive_or_speaks_http",
            "protocol/disk/test_root_attacks.py::test_silent_overwrite_of_a_users_file",
        ),
        ("hostile/test_what_is_not_there.py::test_this_check_sees_an_import",),
    ),
    Row(
        "CVE-2022-42725, croc PR#1191",
        "A link of the offer, or planted meanwhile, leads a file outside",
        "no entry below a link; each folder is opened from its parent's handle with O_NOFOLLOW",
        (
            "protocol/disk/test_names.py::test_a_link_to_tmp_and_a_file_through_it_is_refused",
            "protocol/disk/test_root_attacks.py::test_a_symlink_planted_between_making_and_opening_a_folder",
            "protocol/disk/test_root_attacks.py::test_a_racing_symlink_never_leads_outside",
        ),
    ),
    Row(
        "CVE-2026-70460",
        "A link in the folder of partial files",
        "a folder of our own, 0700, opened through handles; a link, a strange file or another's folder is not used",
        (
            "protocol/disk/test_partials.py::test_a_planted_link_in_place_of_the_folder_is_refused",
            "protocol/disk/test_partials.py::test_a_planted_link_in_place_of_a_file_is_not_followed",
            "protocol/disk/test_partials.py::test_folder_and_files_are_closed_to_others",
            "protocol/disk/test_unfinished.py::test_a_planted_link_in_place_of_the_record_is_not_followed",
        ),
    ),
    Row(
        "CVE-2026-32116",
        "One caller forgets the check of a path",
        "one gate: no other module may open or change a path",
        (
            "protocol/disk/test_one_gate.py::test_no_other_module_opens_or_changes_a_path",
            "protocol/disk/test_one_gate.py::test_the_gate_follows_no_link_and_replaces_nothing",
        ),
        ("protocol/disk/test_one_gate.py::test_this_check_sees",),
    ),
    Row(
        "CVE-2026-42448",
        "The check holds for one way of writing and not for another",
        "a property over every mode: new folder, standing one, link, each policy, partial files, standard output",
        ("hostile/test_output_modes.py::test_nothing_outside_is_touched_and_no_folder_is_lost",),
        ("hostile/test_output_modes.py::test_the_property_fails_where_a_caller_goes_round_the_gate",),
    ),
    Row(
        "CVE-2023-29380",
        "The sender's names decide what is deleted",
        "nothing is deleted but what we staged; a folder is never replaced",
        (
            "protocol/disk/test_root_attacks.py::test_remote_deletion_by_a_sender_named_folder",
            "protocol/disk/test_conflicts.py::test_remote_deletion_no_policy_lets_a_file_or_a_link_take_a_folders_place",
        ),
    ),
    Row(
        "CVE-2025-27142",
        "Somebody who proved nothing writes a file",
        "a listener does nothing before the handshake; data before the yes is a violation; `--yes` widens no path",
        (
            "protocol/session/test_pair.py::test_data_before_the_yes_is_a_violation",
            "e2e/test_hostile_relay.py::test_noise_at_a_listening_sender_ends_that_connection_only",
            "hostile/test_hostile_peer.py::test_a_name_that_leaves_the_directory_is_refused_before_anybody_is_asked",
        ),
    ),
    Row(
        "CVE-2025-54792",
        "A forged announcement takes a known name's place",
        "a name chooses no key: every answer is tried, and the handshake decides",
        (
            "net/lan/test_discovery_rules.py::test_an_impostor_does_not_displace_the_sender",
            "protocol/api/test_lan.py::test_an_impostor_costs_a_guess_and_the_sender_is_found_behind_it",
            "protocol/core/test_auth.py::test_half_of_another_identity_is_refused",
        ),
    ),
    Row(
        "CVE-2026-25154",
        "A file's name becomes a script in a page",
        "no package makes a page",
        ("hostile/test_what_is_not_there.py::test_no_module_reads_an_archive_or_speaks_http",),
        ("hostile/test_what_is_not_there.py::test_this_check_sees_an_import",),
    ),
    Row(
        "LocalSend before 1.18.2",
        "A redirect that the peer sends is followed",
        "no HTTP anywhere; a relay's redirect names a relay, and replaces no remembered key",
        (
            "hostile/test_what_is_not_there.py::test_no_module_reads_an_archive_or_speaks_http",
            "net/relay_client/test_client.py::test_a_pin_from_a_redirect_replaces_nothing_that_was_remembered",
        ),
    ),
    Row(
        "CVE-2026-100251",
        "The relay is made to dial, or the peer, to an address of the attacker's choice",
        "a relay dials nobody; candidates are judged before anything is sent",
        (
            "hostile/test_what_is_not_there.py::test_a_relay_dials_nobody",
            "hostile/test_what_is_not_there.py::test_no_message_of_a_client_names_a_place_to_the_relay",
            "net/paths/test_candidates.py::test_an_address_that_is_no_single_host_elsewhere_is_never_tried",
            "hostile/test_hostile_peer.py::test_a_loopback_candidate_of_a_stranger_is_taken_down_and_never_tried",
        ),
        ("hostile/test_what_is_not_there.py::test_this_check_sees_a_relay_that_would_dial",),
    ),
    Row(
        "croc#1217, croc#1219, KeibiDrop#50",
        "A small message takes all memory, or all time",
        "lengths are checked before memory is taken, peaks are measured, every decoder is fuzzed, patterns take linear time",
        (
            "hostile/test_bombs.py::test_a_bomb_costs_no_more_than_its_share",
            "fuzz/test_targets.py::test_mutated_inputs_are_refused_or_taken_as_they_are",
            "protocol/disk/test_patterns.py::test_no_pattern_keeps_a_scan_busy",
        ),
        ("hostile/test_bombs.py::test_the_measure_sees_what_the_naive_implementation_takes",),
    ),
    Row(
        "LocalSend PR#3263, croc `receivefs`",
        "Two names for one place, reserved names, and good names that are refused",
        "compared folded and normalised; a corpus of refused and of accepted names",
        (
            "protocol/disk/test_names.py::test_nfc_and_nfd_of_one_name_cannot_both_be_offered",
            "protocol/disk/test_names.py::test_case_pair_clashes_within_an_offer",
            "protocol/disk/test_names.py::test_refuses",
            "protocol/disk/test_names.py::test_a_file_that_is_a_folder_for_another_entry_is_refused",
            "protocol/disk/test_names.py::test_ordinary_names_in_many_scripts_are_accepted",
        ),
    ),
    Row(
        "wormhole-william `HasPrefix`, portal",
        "A path begins with the folder's name and lies beside it",
        "components and handles, no strings",
        ("hostile/test_output_modes.py::test_nothing_outside_is_touched_and_no_folder_is_lost",),
        ("hostile/test_output_modes.py::test_the_property_fails_where_a_caller_goes_round_the_gate",),
    ),
    Row(
        "magic-wormhole#107, #110, #150, #191, #469, #533",
        "Guessing, and taking places",
        "three guesses, counted before the comparison, told to both; leases; limits per address; 38 bits",
        (
            "e2e/test_codes.py::test_the_third_wrong_code_burns_it_and_a_late_right_one_is_told",
            "e2e/test_hostile_relay.py::test_parallel_wrong_guesses_are_counted_and_the_third_burns",
            "relay/test_rooms.py::test_a_stranger_cannot_take_the_sender_s_place_while_it_is_away",
            "relay/test_signaling.py::test_the_rate_of_joins_is_limited_per_address_with_a_time_to_retry",
        ),
    ),
    Row(
        "LeastAuthority#665",
        "A list of all that wait",
        "no message lists rooms",
        ("hostile/test_what_is_not_there.py::test_no_message_lists_rooms",),
    ),
    Row(
        "croc#437, croc#1189, dashbeam PR#321",
        "Secrets in logs, files that others read, a built-in password",
        "`Secret` shows its length; 0600 in 0700 under any umask; no password is built in",
        (
            "hostile/test_secrets.py::test_what_a_transfer_keeps_is_closed_to_others",
            "cli/test_application.py::test_debugging_shows_where_it_came_from_and_no_code",
            "protocol/core/test_secrets_stay_hidden.py::test_failing_handshakes_show_no_secret_in_error_or_traceback",
            "relay/test_process.py::test_the_log_tells_of_rooms_by_a_random_number_and_of_nobody",
        ),
    ),
    Row(
        "a look-alike site of Warpinator",
        "A false download",
        "no document pipes a download into a shell; what is installed is pinned",
        (
            "hostile/test_what_is_not_there.py::test_no_document_asks_to_pipe_a_download_into_a_shell",
            "packaging/test_pins.py::test_constraints_and_workspace_hold_the_same_pins",
        ),
    ),
)


def table() -> list[str]:
    """Return the table of docs/threat-model.md, line by line. "without it" marks a test that takes the defence away."""
    lines = ["| known from | attack | defence | shown by |", "|---|---|---|---|"]
    for row in ROWS:
        shown = [f"`tests/{test}`" for test in row.tests] + [
            f"without it: `tests/{test}`" for test in row.naive
        ]
        lines.append(f"| {row.known_from} | {row.attack} | {row.defence} | {'<br>'.join(shown)} |")
    return lines
