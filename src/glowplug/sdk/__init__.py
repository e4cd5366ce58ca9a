"""What user code touches: App, Function, Image, Volume, Secret, gpu. Python 3.9; it is in containers too."""
