"""What keeps the job running where nobody looks: its timetable and the machine's own scheduler."""
