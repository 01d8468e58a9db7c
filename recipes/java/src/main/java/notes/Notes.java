package notes;

import java.util.List;
import java.util.Optional;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.atomic.AtomicLong;

/** The notes, in memory, safe for any number of threads. */
final class Notes {
    private final ConcurrentSkipListMap<Long, Note> notes = new ConcurrentSkipListMap<>();
    private final AtomicLong last = new AtomicLong();

    /** Keeps a new note and returns it. */
    Note add(String text) {
        Note note = new Note(last.incrementAndGet(), text);
        notes.put(note.id(), note);
        return note;
    }

    /** Returns all notes, oldest first. */
    List<Note> all() {
        return List.copyOf(notes.values());
    }

    Optional<Note> get(long id) {
        return Optional.ofNullable(notes.get(id));
    }

    /** Gives the note a new text. Empty if there is no such note: a deleted one is not brought back. */
    Optional<Note> replace(long id, String text) {
        return Optional.ofNullable(notes.computeIfPresent(id, (key, old) -> new Note(key, text)));
    }

    /** Returns whether the note was there. */
    boolean delete(long id) {
        return notes.remove(id) != null;
    }
}
